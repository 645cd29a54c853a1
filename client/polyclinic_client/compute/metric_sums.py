"""Metric sums over held-out patients, as integers on a public grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyclinic_client.compute.integers import grid_total
from polyclinic_client.compute.patients import Block
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.layout import Layout, contributions, make_layout
from polyclinic_common.models.score_head import Vector
from polyclinic_common.secure_sum.masks import Integers


@dataclass(frozen=True)
class SummedMetrics:
    """Gives sums of patients' joint vectors in grid units, sensitivity exactly `clip`."""

    layout: Layout
    encoding: Encoding
    clip: float
    grid: float

    @staticmethod
    def of(encoding: Encoding, clip: float, grid: float) -> SummedMetrics:
        """Return the sums that a study's metrics are read from."""
        return SummedMetrics(make_layout(encoding.study), encoding, clip, grid)

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        """Return the sum over the patients of all blocks at the broadcast model."""
        rows = (contributions(self.layout, self.encoding, weights, *block) for block in blocks)
        return grid_total(rows, self.layout.length, self.clip, self.grid)
