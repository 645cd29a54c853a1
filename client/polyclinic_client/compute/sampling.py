"""Poisson sampling: every patient takes part in a step with the same probability, on its own."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.privacy.streams import system_stream


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
        self._stream = system_stream()

    def rows(
        self,
        patients: int,
        rate: float,
        moment: tuple[int, int],  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """Return the chosen rows; the probability is `rate` to within 2^-53."""
        words = self._stream.words(patients)
        uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.flatnonzero(uniform < rate)
