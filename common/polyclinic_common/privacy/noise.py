"""Where noise comes from.

Nothing a user can set reaches a noise source: no seed, option, environment variable or file.
Tests inject a source through a constructor.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray
from scipy.special import ndtri


class NoiseSource(Protocol):
    """Gives Gaussian noise."""

    def gaussian(self, size: int, deviation: float) -> NDArray[np.float64]:
        """Return `size` independent normal samples of mean 0 and this standard deviation."""
        ...


class SystemNoise:
    """Continuous Gaussian noise from a ChaCha20 stream keyed by the operating system.

    Uniform 52-bit numbers of the stream (RFC 8439), never 0 nor 1, are mapped by the normal
    quantile function.
    In floating point the low bits of a sum can betray its noiseless part (Mironov, On significance
    of the least significant bits for differential privacy, CCS 2012); ``docs/privacy.md`` says
    where that matters.
    """

    def __init__(self) -> None:
        # A key of its own for every source, never used again: the nonce may be constant.
        cipher = Cipher(ChaCha20(os.urandom(32), bytes(16)), mode=None)
        self._stream = cipher.encryptor()

    def gaussian(self, size: int, deviation: float) -> NDArray[np.float64]:
        """Return `size` independent normal samples of mean 0 and this standard deviation."""
        words = np.frombuffer(self._stream.update(bytes(8 * size)), dtype=np.uint64)
        uniform = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return np.asarray(ndtri(uniform) * deviation, dtype=np.float64)
