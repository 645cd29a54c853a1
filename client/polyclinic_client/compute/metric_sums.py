"""Metric sums over held-out patients, as integers on a public grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyclinic_client.compute.integers import NoisyIntegers, grid_total
from polyclinic_client.compute.patients import Block, Patients
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.layout import Layout, contributions, make_layout
from polyclinic_common.models.score_head import Vector
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
        rows = (contributions(self.layout, self.encoding, weights, *block) for block in blocks)
        return grid_total(rows, self.layout.length, self.clip, self.grid)


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
