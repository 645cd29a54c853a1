"""The frozen snapshot of a cohort, cut into blocks, and what computes gradients of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Cohort
from polyclinic_common.models.score_head import Matrix, Vector

BLOCK = 256

Block = tuple[Matrix, Matrix, Matrix]
"""Encoded rows, targets and mask of the patients that pass together."""


class GradientEngine(Protocol):
    """Computes the sum over patients of their gradients."""

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the patients' gradients at `weights`, shape (d,), float64."""
        ...


class Patients:
    """The frozen snapshot of a cohort, ready to be cut into blocks.

    A patient with a number that is not finite is replaced by zeros: 0 * NaN is NaN, and one such
    row would spoil the sum of all.

    Parameters
    ----------
    cohort : Cohort
        The encoded patients.
    block : int or None
        Patients in a block, zero-padded with mask 0; None makes one block of exact size. Of no
        patients there is one block of padding, so that whatever is asked of an empty cohort runs
        the same way as of any other.
    """

    def __init__(self, cohort: Cohort, block: int | None = BLOCK):
        self._parts = [cohort.x, cohort.y, cohort.mask]
        finite = np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in self._parts])
        if not finite.all():
            self._parts = [np.where(finite[:, None], part, 0.0) for part in self._parts]
        self._block = block
        self._whole = self._cut(self._parts)

    def __len__(self) -> int:
        return len(self._parts[0])

    def blocks(self, rows: NDArray[np.int64] | None = None) -> list[Block]:
        """Return all patients, or those of `rows`, in blocks."""
        if rows is None:
            return self._whole
        return self._cut([part.take(rows, axis=0) for part in self._parts])

    def _cut(self, parts: list[Matrix]) -> list[Block]:
        size = len(parts[0])
        block = self._block or max(1, size)
        count = max(1, -(-size // block))
        x, y, mask = (_padded(part, count * block - size) for part in parts)
        return [
            (x[start : start + block], y[start : start + block], mask[start : start + block])
            for start in range(0, count * block, block)
        ]


def _padded(part: Matrix, rows: int) -> Matrix:
    """Return `part` with this many rows of zeros below."""
    return np.concatenate([part, np.zeros((rows, part.shape[1]))]) if rows else part
