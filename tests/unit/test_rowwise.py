"""Arithmetic row by row gives the same numbers as the libraries, to the last places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from polyclinic_common import rowwise

Floats = rowwise.Floats
PAIRS: list[tuple[Callable[[Floats], Floats], Callable[[Floats], Floats], float, float]] = [
    (rowwise.exp, np.exp, -700.0, 700.0),
    (rowwise.expit, special.expit, -40.0, 40.0),
    (rowwise.tanh, np.tanh, -30.0, 30.0),
    (rowwise.tanh, np.tanh, -1e-3, 1e-3),
    (rowwise.log, np.log, 1e-300, 1e300),
    (rowwise.log, np.log, 0.5, 2.0),
    (rowwise.logit, special.logit, 1e-3, 0.999),
]


@pytest.mark.parametrize(("ours", "library", "low", "high"), PAIRS)
def test_functions_are_right_to_a_few_last_places(
    ours: Callable[[Floats], Floats],
    library: Callable[[Floats], Floats],
    low: float,
    high: float,
) -> None:
    values = np.random.default_rng(0).uniform(low, high, 100_000)
    found, expected = ours(values), library(values)
    floor = 1.0 if ours is rowwise.logit else 2.0**-50  # odds near one are rounded themselves
    off = np.abs(found - expected) / np.spacing(np.maximum(np.abs(expected), floor))
    assert off.max() <= 4.0


def test_known_answers() -> None:
    ends = np.array([-np.inf, -1e300, -0.0, 0.0, 1e300, np.inf, np.nan])
    assert rowwise.exp(ends)[[2, 3]].tolist() == [1.0, 1.0]
    assert np.isfinite(rowwise.exp(ends)[:-1]).all()
    assert rowwise.expit(ends)[[2, 3, 4, 5]].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert rowwise.tanh(ends)[:-1].tolist() == [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]
    found = rowwise.log(np.array([0.0, 1.0, 2.0, np.inf]))
    assert found.tolist() == [-np.inf, 0.0, float.fromhex("0x1.62e42fefa39efp-1"), np.inf]
    assert np.isnan(rowwise.log(np.array([-1.0, -np.inf, np.nan]))).all()
    assert rowwise.logit(np.array([0.0, 0.5, 1.0])).tolist() == [-np.inf, 0.0, np.inf]
    for function in (rowwise.exp, rowwise.expit, rowwise.tanh):
        assert np.isnan(function(ends)[-1])


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 40),
    width=st.integers(0, 70),
    sums=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_sums_are_those_of_a_product_of_matrices(
    count: int, width: int, sums: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, weights = rng.normal(size=(count, width)), rng.normal(size=(sums, width))
    np.testing.assert_allclose(
        rowwise.weighted_sums(rows, weights), rows @ weights.T, rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(rowwise.row_sums(rows), rows.sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(rowwise.row_norms(rows), np.linalg.norm(rows, axis=1), rtol=1e-13)


def test_the_order_of_adding_follows_from_the_width_alone() -> None:
    """Known answer of the tree: (a + (d + ...)) differs from the order from left to right."""
    row = np.array([[1.0, 2.0**-53, 2.0**-53, 1.0]])
    left_to_right = ((1.0 + 2.0**-53) + 2.0**-53) + 1.0
    tree = (1.0 + 2.0**-53) + (2.0**-53 + 1.0)
    assert rowwise.row_sums(row)[0] == tree
    assert left_to_right == tree == 2.0
    row = np.array([[2.0**53, 1.0, 1.0]])  # the last is added to the first, then the one between
    assert rowwise.row_sums(row)[0] == (2.0**53 + 1.0) + 1.0


def test_how_many_numbers_are_held_at_a_time_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    rows, weights = rng.normal(size=(50, 31)), rng.normal(size=(9, 31))
    whole = rowwise.weighted_sums(rows, weights)
    monkeypatch.setattr(rowwise, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(rowwise, "PRODUCTS_AT_ONCE", 200)
    assert np.array_equal(rowwise.weighted_sums(rows, weights), whole)
