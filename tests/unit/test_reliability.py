"""Calibration is measured on patients: in total, by fifth, and by the slope of outcome on score."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from polyclinic_simulations.results.reliability import (
    logistic_slope,
    reliability_of_hazards,
    reliability_of_yes_or_no,
)
from polyclinic_simulations.results.results import Reliability

Floats = NDArray[np.float64]


def expit(score: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-score)))


def flattened(score: Floats, factor: float) -> Floats:
    return np.asarray(score.mean() + factor * (score - score.mean()))


@pytest.mark.parametrize("factor", [1.0, 0.3, 2.0])
def test_the_slope_undoes_what_flattens_probabilities(factor: float) -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(-2.7, 1.0, 20_000)
    happened = (rng.random(20_000) < expit(score)).astype(float)
    found = reliability_of_yes_or_no(happened, expit(flattened(score, factor)))
    assert found.slope is not None
    assert found.slope_error is not None
    assert found.slope == pytest.approx(1.0 / factor, abs=4 * found.slope_error)
    assert found.slope_error < 0.1 / factor


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_hazards_are_judged_over_the_intervals_at_risk(factor: float) -> None:
    """With half of the patients censored early: expected and observed events still agree."""
    rng = np.random.default_rng(1)
    count, intervals = 20_000, 5
    score = rng.normal(-3.5, 0.7, count)
    hazards = np.repeat(expit(score)[:, None], intervals, axis=1)
    drawn = rng.random((count, intervals)) < hazards
    first = np.where(drawn.any(axis=1), drawn.argmax(axis=1), intervals)[:, None]
    censored = rng.integers(0, 2 * intervals, count)[:, None]
    place = np.arange(intervals)[None, :]
    at_risk = ((place <= first) & (place < censored)).astype(float)
    happened = (place == first) * at_risk
    told = flattened(score, factor)
    found = reliability_of_hazards(
        happened, at_risk, np.repeat(expit(told)[:, None], intervals, axis=1), told, []
    )
    assert found.slope is not None
    assert found.slope == pytest.approx(1.0 / factor, rel=0.1)
    expected, observed = (sum(getattr(each, name) for each in found.fifths)
                          for name in ("expected", "observed"))  # fmt: skip
    if factor == 1.0:
        assert abs(expected - observed) < 4 * np.sqrt(sum(each.variance for each in found.fifths))


def test_fifths_hold_every_patient_once_in_order_of_prediction() -> None:
    predicted = np.linspace(0.01, 0.99, 103)
    found = reliability_of_yes_or_no((predicted > 0.5).astype(float), predicted)
    assert [each.patients for each in found.fifths] == [21, 21, 21, 20, 20]
    shares = [each.expected / each.patients for each in found.fifths]
    assert shares == sorted(shares)
    assert sum(each.expected for each in found.fifths) == pytest.approx(predicted.sum())


def test_a_slope_that_no_data_give_is_null() -> None:
    outcomes = np.array([0.0, 0.0, 1.0, 1.0])
    assert logistic_slope(np.arange(4.0), outcomes, np.ones(4)) == (None, None)  # separated
    assert logistic_slope(np.zeros(4), outcomes, np.ones(4)) == (None, None)  # all alike
    nobody: Reliability = reliability_of_yes_or_no(np.zeros(20), np.linspace(0.1, 0.2, 20))
    assert nobody.slope is None
