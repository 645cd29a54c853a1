"""One setting of a simulation: what is varied between runs, apart from the seed."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic_common.privacy import gdp
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class Setting:
    """Mode and, in private modes, epsilon."""

    mode: str
    epsilon: float | None

    def deviation(self, study: Study) -> float:
        """Standard deviation of one site's noise on one coordinate."""
        if self.epsilon is None:
            return 0.0
        rounds, delta = study.training.rounds, study.privacy.delta
        return gdp.noise_multiplier(self.epsilon, delta, rounds) * study.clip
