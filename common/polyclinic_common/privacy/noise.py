"""Where noise comes from.

Nothing a user can set reaches a noise source: no seed, option, environment variable or file.
Tests inject a source through a constructor.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from polyclinic_common.privacy.discrete_gaussian import discrete_gaussian
from polyclinic_common.privacy.streams import derived_stream, system_stream


class NoiseSource(Protocol):
    """Gives Gaussian noise."""

    def gaussian(self, size: int, deviation: float) -> NDArray[np.float64]:
        """Return `size` independent normal samples of mean 0 and this standard deviation."""
        ...

    def discrete(self, size: int, variance: int, context: bytes) -> NDArray[np.int64]:
        """Return `size` independent discrete Gaussian samples of mean 0 and this variance.

        `context` names what the noise is for: run, round, kind, broadcast and integer sum.
        """
        ...


class SystemNoise:
    """Noise from ChaCha20 streams (RFC 8439) keyed by the operating system.

    Continuous noise, all from one stream: uniform 52-bit numbers, never 0 nor 1, are mapped by the
    normal quantile function. In floating point the low bits of a sum can betray its noiseless part
    (Mironov, On significance of the least significant bits for differential privacy, CCS 2012);
    ``docs/privacy.md`` says where that matters.

    Discrete noise is exact, and each call has a stream of its own.

    Parameters
    ----------
    secret : bytes
        A secret of the site. It is mixed with fresh entropy, never used in its place: the same
        secret gives other noise every time.
    """

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret
        self._stream = system_stream()

    def gaussian(self, size: int, deviation: float) -> NDArray[np.float64]:
        """Return `size` independent normal samples of mean 0 and this standard deviation."""
        words = self._stream.words(size)
        noise = (words >> np.uint64(12)).astype(np.float64)
        noise += 0.5
        noise *= 2.0**-52
        ndtri(noise, out=noise)
        noise *= deviation
        return noise

    def discrete(self, size: int, variance: int, context: bytes) -> NDArray[np.int64]:
        """Return `size` independent discrete Gaussian samples of mean 0 and this variance.

        Should the operating system repeat its entropy (a cloned machine), another context still
        gives other noise.
        """
        return discrete_gaussian(derived_stream(self._secret, context), size, variance)
