r"""Sums of patients' gradients as integers on a public grid, with an exact bound on one patient.

Every patient's gradient is clipped to :math:`C - \gamma\sqrt d/2`, rounded to the
grid :math:`\gamma`, checked in integers against :math:`C/\gamma` and then summed: adding or
removing one patient moves the sum by at most C, whatever floating point did before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from polyclinic_client.compute.patients import Block, Patients
from polyclinic_common.models.score_head import Matrix, Vector
from polyclinic_common.packing import Value, pack
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.rowwise import row_norms
from polyclinic_common.secure_sum.masks import Integers


class RowEngine(Protocol):
    """Gives the gradient of every patient."""

    def patient_gradients(self, weights: Vector, block: Block) -> Matrix:
        """Return the unclipped gradient of every patient of a block, shape (B, d)."""
        ...


class IntegerSums(Protocol):
    """Gives sums of gradients in grid units."""

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        """Return the sum over the patients of all blocks, shape (d,)."""
        ...


@dataclass(frozen=True)
class SummedRows:
    """Sums patient by patient: sensitivity exactly `clip`.

    Attributes
    ----------
    engine : RowEngine
        Gives unclipped gradients.
    clip : float
        Bound C on the Euclidean norm of what one patient adds.
    grid : float
        Grid, a power of two.
    """

    engine: RowEngine
    clip: float
    grid: float

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        """Return the sum over the patients of all blocks, shape (d,)."""
        rows = (self.engine.patient_gradients(weights, block) for block in blocks)
        return grid_total(rows, weights.size, self.clip, self.grid)


@dataclass(frozen=True)
class GridSums:
    """The same sums in the unit of the clip, for steps whose noise is not on a grid.

    Attributes
    ----------
    sums : IntegerSums
        Gives sums in grid units.
    grid : float
        Grid, a power of two.
    """

    sums: IntegerSums
    grid: float

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum over the patients of all blocks, shape (d,): exact up to 2^53 units."""
        return np.asarray(self.sums.integer_sum(weights, blocks) * self.grid, dtype=np.float64)


def grid_total(rows: Iterable[Matrix], length: int, clip: float, grid: float) -> Integers:
    """Return the sum over all patients in grid units, shape (length,), each as `on_grid` has it.

    Parameters
    ----------
    rows : iterable of array of shape (B, length)
        What the patients of every block add.
    """
    total = np.zeros(length, dtype=np.int64)
    for block in rows:
        total += on_grid(block, clip, grid).sum(axis=0)
    return total


def on_grid(rows: Matrix, clip: float, grid: float) -> Integers:
    """Return rows in grid units, every one with Euclidean norm at most ``clip / grid``.

    A row that is not finite, or fails the exact check, counts as zero.

    Parameters
    ----------
    rows : array of shape (B, d)
        Gradients.
    clip, grid : float
        Bound on a row, and the grid.
    """
    bound = clip - grid * math.sqrt(rows.shape[1]) / 2
    norms = row_norms(rows)
    usable = np.isfinite(norms)
    kept = np.where(usable[:, None], rows, 0.0)
    factor = bound / np.maximum(np.where(usable, norms, 0.0), bound)
    whole = np.rint(kept * factor[:, None] / grid).astype(np.int64)
    limit = math.floor((Fraction(clip) / Fraction(grid)) ** 2)
    reach = math.isqrt(limit)
    whole[((whole > reach) | (whole < -reach)).any(axis=1)] = 0  # else a square could wrap
    whole[np.einsum("bd,bd->b", whole, whole) > limit] = 0
    return whole


@dataclass(frozen=True)
class Moment:
    """When noise is drawn: for which release, at which model, in which step.

    Attributes
    ----------
    release : ReleaseId
        Run, round and kind.
    broadcast : bytes
        Hash of the model that was sent out.
    step : int
        Step of a round at the site.
    """

    release: ReleaseId
    broadcast: bytes
    step: int = 0

    def context(self, total: Integers) -> bytes:
        """Return what noise on `total` is derived from, beside entropy and the site's secret."""
        name: Value = [self.release.run, self.release.round_number, self.release.kind, self.step]
        digest = hashlib.sha256(total.tobytes()).digest()
        return pack(["polyclinic noise", name, self.broadcast, digest])


@dataclass(frozen=True)
class NoisyIntegers:
    """The noisy integer sum of a cohort: the one place where exact noise is added.

    Attributes
    ----------
    sums : IntegerSums
        Gives integer sums.
    patients : Patients
        The frozen cohort.
    noise : NoiseSource
        Where noise comes from.
    variance : int
        Variance of this site's noise, in grid units squared.
    """

    sums: IntegerSums
    patients: Patients
    noise: NoiseSource
    variance: int

    def draw(self, weights: Vector, moment: Moment) -> Integers:
        """Return the noisy sum at `weights`, shape (d,).

        The noise is derived from moment and sum too: repeated entropy (a cloned machine) cannot
        repeat it over other inputs.
        """
        total = self.sums.integer_sum(weights, self.patients.blocks())
        return total + self.noise.discrete(total.size, self.variance, moment.context(total))
