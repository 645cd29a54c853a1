"""One patient moves a hospital's integers by at most C / gamma, whatever floating point does.

Norms and sums are recomputed here with Python's integers and fractions, which cannot round.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from polyclinic_client.compute.gradients import OpacusRows
from polyclinic_client.compute.integers import (
    Moment,
    NoisyIntegers,
    SummedRows,
    on_grid,
)
from polyclinic_client.compute.patients import BLOCK, Block, GradientEngine, Patients
from polyclinic_client.compute.row_network import RowNetwork
from polyclinic_common.data.encoding import Cohort
from polyclinic_common.models.losses import logistic
from polyclinic_common.models.score_head import Matrix, Network, Vector, weight_count
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.sum_plan import sensitivity_of
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.releases.shares import most_patients
from polyclinic_common.secure_sum.masks import Integers
from polyclinic_simulations.compute.fast_gradients import ClosedForm, RoundedProducts
from polyclinic_simulations.compute.ghost_norms import ClippedByGhostNorms

CLIP, EXPONENT = 0.7, -12
GRID = 2.0**EXPONENT
WIDTH, HIDDEN = 6, (5,)
NETWORK = Network(WIDTH, HIDDEN, 1)
SPECIAL = [np.nan, np.inf, -np.inf, 1e30, -1e30, 1.7e308, -0.0, 5e-324, 2.2e-308]
ENTRIES = st.one_of(st.sampled_from(SPECIAL), st.floats(-2.0, 2.0), st.floats(width=64))


class GivenRows:
    """A row engine whose rows are those of the block: any gradients at all."""

    def patient_gradients(self, weights: Vector, block: Block) -> Matrix:
        return block[0]


def rows_in_blocks(rows: Matrix, size: int) -> list[Block]:
    none = np.zeros((0, 1))
    return [(rows[start : start + size], none, none) for start in range(0, len(rows), size)]


def summed(rows: Matrix, grid: float = GRID, size: int = 4) -> list[int]:
    sums = SummedRows(GivenRows(), CLIP, grid)
    return exact(sums.integer_sum(np.zeros(rows.shape[1]), rows_in_blocks(rows, size)))


def exact(vector: Integers) -> list[int]:
    return [int(entry) for entry in vector]


def within_bound(moved: Sequence[int], grid: float = GRID) -> bool:
    """Say whether the Euclidean norm is at most C / gamma, exactly."""
    return sum(entry * entry for entry in moved) <= (Fraction(CLIP) / Fraction(grid)) ** 2


def at_the_bound(length: int, seed: int) -> Vector:
    """A row whose norm is the bound before rounding, every entry just above a half unit."""
    bound = CLIP - GRID * math.sqrt(length) / 2
    row = np.random.default_rng(seed).normal(size=length)
    row *= bound / np.linalg.norm(row)
    return np.asarray(row, dtype=np.float64)


HOSTILE = st.integers(1, 9).flatmap(
    lambda length: arrays(
        np.float64, st.tuples(st.integers(1, 9), st.just(length)), elements=ENTRIES
    )
)


@settings(max_examples=300, deadline=None)
@given(rows=HOSTILE, chosen=st.integers(0, 8), exponent=st.integers(-30, -3))
@example(rows=np.full((2, 4), np.nan), chosen=0, exponent=EXPONENT)
@example(rows=np.full((1, 1), 1.7e308), chosen=0, exponent=EXPONENT)
@example(rows=np.full((3, 9), 5e-324), chosen=1, exponent=EXPONENT)
def test_one_patient_moves_the_integers_by_at_most_the_clip(
    rows: Matrix, chosen: int, exponent: int
) -> None:
    chosen, grid = chosen % len(rows), 2.0**exponent
    everybody = summed(rows, grid)
    others = summed(np.delete(rows, chosen, axis=0), grid)
    moved = [a - b for a, b in zip(everybody, others, strict=True)]
    assert within_bound(moved, grid)
    if not np.isfinite(rows[chosen]).all():
        assert not any(moved)


@settings(max_examples=200, deadline=None)
@given(length=st.integers(1, 40), seed=st.integers(0, 2**31), scale=st.sampled_from([1.0, 1e9]))
def test_a_row_at_the_bound_stays_within_it_and_is_kept(
    length: int, seed: int, scale: float
) -> None:
    """The check never throws away a gradient that was clipped as it should be."""
    (whole,) = on_grid(scale * at_the_bound(length, seed)[None], CLIP, GRID)
    assert within_bound(exact(whole))
    assert np.linalg.norm(whole * GRID) >= CLIP - GRID * math.sqrt(length)


@pytest.mark.parametrize("entry", [1.0, -1e9])
def test_the_check_in_integers_holds_where_the_clip_in_floats_does_not(entry: float) -> None:
    """On a grid coarser than any plan's, C - gamma sqrt(d) / 2 is below zero and bounds nothing.

    Two units would stay of this row: (2 gamma)^2 = 1 is more than C^2 = 0.49.
    """
    row = np.zeros((1, 40))
    row[0, 7] = entry
    assert not on_grid(row, CLIP, 0.5).any()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    place=st.integers(0, 7),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 1.7e308]),
)
def test_a_hostile_row_counts_as_zero_and_leaves_every_other_bit_alone(
    seed: int, place: int, value: float
) -> None:
    """1.7e308 in every entry: each is finite, the norm is not."""
    rows = np.random.default_rng(seed).normal(size=(8, 5))
    spoilt = rows.copy()
    spoilt[place] = value
    clean, found = on_grid(rows, CLIP, GRID), on_grid(spoilt, CLIP, GRID)
    assert not found[place].any()
    others = np.arange(8) != place
    assert found[others].tobytes() == clean[others].tobytes()
    assert summed(spoilt) == summed(np.delete(rows, place, axis=0))


def cohort(size: int, seed: int = 0, scale: float = 1.0) -> Cohort:
    rng = np.random.default_rng(seed)
    x = scale * rng.uniform(-1, 1, (size, WIDTH))
    return Cohort(x, (rng.random((size, 1)) < 0.5).astype(float), np.ones((size, 1)))


def weights_for(seed: int = 1) -> Vector:
    return np.random.default_rng(seed).normal(0, 1, weight_count(NETWORK))


def reference() -> SummedRows:
    return SummedRows(OpacusRows(RowNetwork(NETWORK), "logistic"), CLIP, GRID)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.sampled_from([1e-3, 1.0, 1e3, 1e9, 1e200]),
    hostile=st.sampled_from([None, *SPECIAL]),
    seed=st.integers(0, 2**31),
)
def test_the_reference_path_of_a_network_has_exactly_the_sensitivity_that_is_charged(
    scale: float, hostile: float | None, seed: int
) -> None:
    """Through Opacus' hooks: with and without one patient, in exact integers."""
    weights, patients = weights_for(seed), cohort(9, seed, scale)
    if hostile is not None:
        patients.x[4] = hostile
    others = patients.take(np.array([row for row in range(9) if row != 4]))
    sums = reference()
    everybody, without = (
        exact(sums.integer_sum(weights, Patients(part).blocks())) for part in (patients, others)
    )
    moved = [a - b for a, b in zip(everybody, without, strict=True)]
    assert within_bound(moved)
    charged = sensitivity_of("rows", CLIP, EXPONENT, weights.size, most_patients(10))
    assert Fraction(charged) == Fraction(CLIP) / Fraction(GRID)
    if hostile is not None and not math.isfinite(hostile):
        assert not any(moved)


def test_a_patients_integers_do_not_depend_on_who_else_is_in_the_block() -> None:
    """Every patient of a full block alone, at its own place: the same bits, so the same sum."""
    patients, weights, sums = cohort(BLOCK, 5), weights_for(), reference()
    (block,) = Patients(patients).blocks()
    rows = on_grid(sums.engine.patient_gradients(weights, block), CLIP, GRID)
    for target in (0, 1, 17, 128, BLOCK - 1):
        only = tuple(np.zeros_like(part) for part in block)
        for part, source in zip(only, block, strict=True):
            part[target] = source[target]
        x, y, mask = only
        alone = sums.integer_sum(weights, [(x, y, mask)])
        assert alone.tobytes() == rows[target].tobytes()
    assert exact(sums.integer_sum(weights, [block])) == exact(rows.sum(axis=0))


def product_engine(kind: str) -> GradientEngine:
    if kind == "ghost":
        return ClippedByGhostNorms(NETWORK, logistic, CLIP)
    return ClosedForm(NETWORK, "logistic", CLIP)


@pytest.mark.parametrize("kind", ["ghost", "closed form"])
@pytest.mark.parametrize("exponent", [-6, EXPONENT, -30])
@settings(max_examples=20, deadline=None)
@given(
    size=st.sampled_from([1, 2, 30, 300]),
    scale=st.sampled_from([1e-3, 1.0, 1e9]),
    hostile=st.sampled_from([None, np.nan, np.inf, 1e30]),
    seed=st.integers(0, 2**31),
)
def test_the_product_path_stays_within_the_slack_that_is_charged(
    kind: str, exponent: int, size: int, scale: float, hostile: float | None, seed: int
) -> None:
    """C + gamma sqrt(d) + n^2 2^-52 C, in grid units: charged for twice the declared patients."""
    weights, patients = weights_for(seed), cohort(size, seed, scale)
    if hostile is not None:
        patients.x[-1] = hostile
    sums = RoundedProducts(product_engine(kind), 2.0**exponent)
    block = None if kind == "closed form" else BLOCK
    everybody, without = (
        exact(sums.integer_sum(weights, Patients(part, block).blocks()))
        for part in (patients, patients.take(np.arange(size - 1)))
    )
    charged = sensitivity_of("products", CLIP, exponent, weights.size, size)
    stated = Fraction(CLIP) * (1 + Fraction(size**2, 2**52)) / Fraction(2) ** exponent + Fraction(
        math.isqrt(weights.size * 10**12) + 1, 10**6
    )
    assert Fraction(charged) <= stated
    squares = sum((a - b) ** 2 for a, b in zip(everybody, without, strict=True))
    assert squares <= Fraction(charged) ** 2


MOMENT = Moment(ReleaseId("run", 3, "gradient"), b"broadcast")
OTHERS = [
    replace(MOMENT, release=ReleaseId("other run", 3, "gradient")),
    replace(MOMENT, release=ReleaseId("run", 4, "gradient")),
    replace(MOMENT, release=ReleaseId("run", 3, "statistics")),
    replace(MOMENT, broadcast=b"other broadcast"),
    replace(MOMENT, step=1),
]


class Constant:
    """Sums that are always the same: what noise is added to is known."""

    def __init__(self, total: Sequence[int]):
        self.total = np.array(total, dtype=np.int64)

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        return self.total


TOTAL = list(range(16))


def noise_of(moment: Moment, secret: bytes = b"s" * 32, total: Sequence[int] = TOTAL) -> Integers:
    """Return the noise in one draw."""
    sums = Constant(total)
    source = NoisyIntegers(sums, Patients(cohort(0)), SystemNoise(secret), 2**24)
    return source.draw(np.zeros(1), moment) - sums.total


@pytest.fixture
def repeated_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloned machine: the operating system gives the same bytes again and again."""
    monkeypatch.setattr(os, "urandom", bytes)


@pytest.mark.usefixtures("repeated_entropy")
def test_repeated_entropy_never_repeats_noise_over_another_sum_round_or_broadcast() -> None:
    """Sixteen integers with a deviation of 2^12 are equal by chance with probability below 2^-200.

    Else the difference of two releases would show what was hidden. The same moment over the same
    sum gives the same noise, which shows that the entropy was really repeated, and is harmless.
    """
    changed = [*TOTAL[:-1], TOTAL[-1] + 1]
    drawn: list[NDArray[np.int64]] = [noise_of(MOMENT), noise_of(MOMENT, total=changed)]
    drawn += [noise_of(moment) for moment in OTHERS]
    drawn.append(noise_of(MOMENT, secret=b"t" * 32))
    assert len({each.tobytes() for each in drawn}) == len(drawn)
    assert np.array_equal(noise_of(MOMENT), drawn[0])


def test_fresh_entropy_gives_other_noise_for_the_very_same_release() -> None:
    """Equal by chance with probability below 2^-200."""
    assert not np.array_equal(noise_of(MOMENT), noise_of(MOMENT))
