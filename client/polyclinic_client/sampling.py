"""Poisson sampling: every patient takes part in a step with the same probability, on its own."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray


class Sampler(Protocol):
    """Chooses the patients of a step."""

    def rows(self, patients: int, rate: float, moment: tuple[int, int]) -> NDArray[np.int64]:
        """Return the chosen rows of `patients`, each chosen with probability `rate`.

        `moment` is round and step; a sampler that must not be repeatable takes no notice of it.
        """
        ...


class SystemSampler:
    """Samples by a ChaCha20 stream (RFC 8439) keyed by the operating system."""

    def __init__(self) -> None:
        # A key of its own for every sampler, never used again: the nonce may be constant.
        self._stream = Cipher(ChaCha20(os.urandom(32), bytes(16)), mode=None).encryptor()

    def rows(
        self,
        patients: int,
        rate: float,
        moment: tuple[int, int],  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """Return the chosen rows; the probability is `rate` to within 2^-53."""
        words = np.frombuffer(self._stream.update(bytes(8 * patients)), dtype=np.uint64)
        uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.flatnonzero(uniform < rate)
