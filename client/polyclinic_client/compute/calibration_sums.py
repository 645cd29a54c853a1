"""Calibration sums over the patients trained on, as integers on a public grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyclinic_client.compute.integers import grid_total
from polyclinic_client.compute.patients import Block
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.calibration import ENTRIES, contributions
from polyclinic_common.models.score_head import Vector
from polyclinic_common.secure_sum.masks import Integers


@dataclass(frozen=True)
class SummedCalibration:
    """Gives sums of equations and derivatives in grid units, sensitivity exactly `clip`."""

    encoding: Encoding
    clip: float
    grid: float

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        """Return the sum over the patients of all blocks at the broadcast model, shape (6,)."""
        rows = (contributions(self.encoding, weights, *block) for block in blocks)
        return grid_total(rows, ENTRIES, self.clip, self.grid)
