"""Sources of noise that add none, injected through constructors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.models.score_head import Vector


class NoNoise:
    """A zero-noise source, injected through the constructor.

    Parameters
    ----------
    secret : bytes
        The site's secret; not used.
    """

    def __init__(self, secret: bytes = b""):
        pass

    def gaussian(self, size: int, deviation: float) -> Vector:
        """Return zeros."""
        return np.zeros(size)

    def discrete(self, size: int, variance: int, context: bytes) -> NDArray[np.int64]:
        """Return zeros."""
        return np.zeros(size, dtype=np.int64)


@dataclass
class Recorder:
    """A noise source that adds nothing and remembers what it was asked for."""

    secret: bytes = b""
    deviations: list[float] = field(default_factory=list)
    variances: list[int] = field(default_factory=list)
    contexts: list[bytes] = field(default_factory=list)

    def gaussian(self, size: int, deviation: float) -> Vector:
        self.deviations.append(deviation)
        return np.zeros(size)

    def discrete(self, size: int, variance: int, context: bytes) -> NDArray[np.int64]:
        self.variances.append(variance)
        self.contexts.append(context)
        return np.zeros(size, dtype=np.int64)

    @property
    def was_asked(self) -> bool:
        return bool(self.deviations or self.variances)
