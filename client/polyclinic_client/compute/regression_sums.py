r"""Sufficient statistics of linear regression, as one bounded vector a patient.

A patient with encoded row x, scaled to norm at most 1, and target y in [-1, 1] adds the upper
triangle of :math:`xx^T` (off the diagonal times :math:`\sqrt2`, so that the vector's norm is
:math:`\|x\|^2`) and :math:`xy`: together a vector of norm at most :math:`\sqrt2`. Dwork, Talwar,
Thakurta and Zhang, Analyze Gauss (STOC 2014), release the same sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyclinic_client.compute.integers import grid_total
from polyclinic_client.compute.patients import Block
from polyclinic_common.models.score_head import Matrix, Vector
from polyclinic_common.rowwise import row_norms
from polyclinic_common.secure_sum.masks import Integers


@dataclass(frozen=True)
class SummedStatistics:
    """Gives sums of sufficient statistics in grid units, sensitivity exactly `clip`."""

    clip: float
    grid: float

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:  # noqa: ARG002
        """Return the sum over the patients of all blocks; the model plays no part."""
        size = blocks[0][0].shape[1]
        return grid_total(
            map(statistics_of, blocks), size * (size + 1) // 2 + size, self.clip, self.grid
        )


def statistics_of(block: Block) -> Matrix:
    """Return every patient's vector, shape (B, d (d + 1) / 2 + d)."""
    x, y, mask = block
    norms = row_norms(x)[:, None]
    rows = mask[:, :1] * x / np.maximum(norms, 1.0)
    first, second = np.triu_indices(x.shape[1])
    products = rows[:, first] * rows[:, second] * np.where(first == second, 1.0, np.sqrt(2.0))
    return np.column_stack([products, rows * np.clip(y[:, :1], -1.0, 1.0)])
