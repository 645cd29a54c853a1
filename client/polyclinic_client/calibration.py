"""Calibration sums over the patients trained on, as integers on a public grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyclinic_client.integers import NoisyIntegers, on_grid
from polyclinic_client.patients import Block, Patients
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.calibration import ENTRIES, contributions
from polyclinic_common.models.network import Vector
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.secure_sum.masks import Integers


@dataclass(frozen=True)
class SummedCalibration:
    """Gives sums of equations and derivatives in grid units, sensitivity exactly `clip`."""

    encoding: Encoding
    clip: float
    grid: float

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        """Return the sum over the patients of all blocks at the broadcast model, shape (6,)."""
        total = np.zeros(ENTRIES, dtype=np.int64)
        for x, y, mask in blocks:
            rows = contributions(self.encoding, weights, x, y, mask)
            total += on_grid(rows, self.clip, self.grid).sum(axis=0)
        return total


def calibration_source(
    encoding: Encoding, cohort: Cohort, plan: SumPlan, noise: NoiseSource
) -> NoisyIntegers:
    """Return what draws the noisy calibration sums of a hospital's training patients."""
    sums = SummedCalibration(encoding, plan.clip, plan.grid)
    return NoisyIntegers(sums, Patients(cohort), noise, plan.variance)
