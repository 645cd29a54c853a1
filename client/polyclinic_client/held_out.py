"""Metric sums over held-out patients, as integers on a public grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyclinic_client.integers import NoisyIntegers, on_grid
from polyclinic_client.patients import Block, Patients
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.layout import Layout, contributions, make_layout
from polyclinic_common.models.network import Vector
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.secure_sum.masks import Integers


@dataclass(frozen=True)
class SummedMetrics:
    """Gives sums of patients' joint vectors in grid units, sensitivity exactly `clip`."""

    layout: Layout
    encoding: Encoding
    clip: float
    grid: float

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        """Return the sum over the patients of all blocks at the broadcast model."""
        total = np.zeros(self.layout.length, dtype=np.int64)
        for x, truth, mask in blocks:
            rows = contributions(self.layout, self.encoding, weights, x, truth, mask)
            total += on_grid(rows, self.clip, self.grid).sum(axis=0)
        return total


def metrics_source(
    encoding: Encoding, held_out: Cohort, plan: SumPlan, noise: NoiseSource
) -> NoisyIntegers:
    """Return what draws the noisy metric sums of a hospital's held-out patients.

    Parameters
    ----------
    held_out : Cohort
        Of :func:`polyclinic_common.evaluation.observed.held_out_cohort`.
    """
    sums = SummedMetrics(make_layout(encoding.study), encoding, plan.clip, plan.grid)
    return NoisyIntegers(sums, Patients(held_out), noise, plan.variance)
