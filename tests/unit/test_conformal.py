"""Intervals keep what they promise: exactly, for patients who are exchangeable."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import binomtest

from polyclinic_common.bundle.conformal import (
    bounds,
    fewest_patients,
    half_width,
    on_scale,
    rank,
)
from polyclinic_common.bundle.observed_rates import (
    group_edges,
    groups_of,
    kaplan_meier,
    survival,
    wilson,
)
from polyclinic_common.bundle.venn_abers import fit
from polyclinic_common.study.outcomes import Continuous

Floats = NDArray[np.float64]
ALPHAS = (0.01, 0.05, 0.1, 0.2, 0.3, 1 / 3, 0.5)


def dose(transform: str = "sqrt") -> Continuous:
    return Continuous.model_validate(
        {
            "kind": "continuous",
            "column": "dose",
            "unit": "mg/week",
            "range": (4, 100),
            "source": "test",
            "transform": transform,
        }
    )


def doses(count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Return predictions and outcomes, some of both on the bounds of the range."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0, 110, count)
    observed = np.clip(predicted + rng.normal(0, 15, count), 4, 100)
    return np.clip(predicted, 4, 100), observed


# Split conformal


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_rank_is_that_of_whole_numbers(alpha: float) -> None:
    for patients in range(1, 400):
        exact = (patients + 1) * (1 - Fraction(str(alpha)))
        assert rank(patients, alpha) == math.ceil(exact)


def test_the_rank_is_right_where_floating_point_is_not() -> None:
    """69 patients at 30 %: 70 x 0.7 is 49, and in floating point a hair less or more."""
    wrong = [
        (patients, alpha)
        for alpha in ALPHAS
        for patients in range(1, 400)
        if math.ceil((patients + 1) * (1 - alpha)) != rank(patients, alpha)
    ]
    assert wrong


@pytest.mark.parametrize(("alpha", "fewest"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.5, 1), (0.3, 3)])
def test_one_patient_fewer_gives_no_interval(alpha: float, fewest: int) -> None:
    predicted, observed = doses(fewest)
    assert fewest_patients(alpha) == fewest
    assert half_width(dose(), predicted, observed, alpha) >= 0.0
    with pytest.raises(ValueError, match="too few"):
        half_width(dose(), predicted[1:], observed[1:], alpha)


def test_a_width_by_hand() -> None:
    """On the scale of roots 2 to 10 become -1 to 1: a root more or less is a quarter."""
    predicted = np.array([25.0, 25.0, 25.0, 36.0])
    observed = np.array([25.0, 36.0, 49.0, 64.0])  # 0, 1, 2 and 2 roots off
    assert half_width(dose(), predicted, observed, 0.5) == pytest.approx(2 / 4)  # third of four
    assert half_width(dose(), predicted, observed, 0.7) == pytest.approx(1 / 4)  # second
    low, high = bounds(dose(), np.array([25.0, 64.0, 9.0]), 0.5)
    assert low == pytest.approx([9.0, 36.0, 4.0])  # clamped to the public range
    assert high == pytest.approx([49.0, 100.0, 25.0])


@pytest.mark.parametrize("transform", ["none", "sqrt", "log"])
@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("patients", [9, 10, 23])
def test_of_exchangeable_patients_exactly_so_many_are_covered(
    transform: str, alpha: float, patients: int
) -> None:
    """Each of n + 1 patients in turn is the new one: the share that is covered is r / (n + 1).

    With one draw of the whole bag this is the probability itself, not an estimate of it. Patients
    on a bound of the range may tie, and can only be covered more often.
    """
    outcome = dose(transform)
    predicted, observed = doses(patients + 1, seed=patients)
    covered = 0
    for new in range(patients + 1):
        others = np.arange(patients + 1) != new
        half = half_width(outcome, predicted[others], observed[others], alpha)
        low, high = bounds(outcome, predicted[new : new + 1], half + 1e-12)
        covered += bool(low[0] <= observed[new] <= high[0])
    scores = np.abs(on_scale(outcome, predicted) - on_scale(outcome, observed))
    assert covered >= rank(patients, alpha)
    assert covered >= (1 - alpha) * (patients + 1)
    if len(set(scores)) == len(scores):
        assert covered == min(rank(patients, alpha), patients + 1)


@pytest.mark.parametrize("transform", ["sqrt", "log"])
def test_intervals_widen_with_the_dose_under_a_transform(transform: str) -> None:
    low, high = bounds(dose(transform), np.array([16.0, 36.0, 49.0]), 0.2)
    assert np.all(np.diff(high - low) > 0.0)
    low, high = bounds(dose("none"), np.array([16.0, 36.0, 49.0]), 0.2)
    assert np.ptp(high - low) == pytest.approx(0.0)


def test_an_interval_ends_at_the_range_and_loses_nobody_on_it() -> None:
    outcome = dose("log")
    low, high = bounds(outcome, np.array([4.0, 5.0, 90.0, 100.0]), 2.0)
    assert low.tolist() == [4.0] * 4
    assert high.tolist() == [100.0] * 4


def test_no_prediction_no_interval() -> None:
    low, high = bounds(dose(), np.array([np.nan, 25.0]), 0.1)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]


# Venn-Abers


def answers(count: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(count), 2)
    return scores, (rng.random(count) < scores).astype(float)


def isotonic(scores: Floats, having: Floats) -> dict[float, float]:
    values, place = np.unique(scores, return_inverse=True)
    patients = np.bincount(place).astype(float)
    found = isotonic_regression(np.bincount(place, having) / patients, weights=patients).x
    return dict(zip(values.tolist(), found.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_steps_are_both_isotonic_fits_with_the_patient_added(seed: int) -> None:
    """At, between, below and above the scores of the others."""
    scores, having = answers(60, seed)
    new = np.round(np.random.default_rng(seed + 100).random(40), 3)
    p0, p1 = fit(scores, having).at(np.append(new, scores))
    for each, low, high in zip(np.append(new, scores), p0, p1, strict=True):
        for answer, found in ((0.0, low), (1.0, high)):
            direct = isotonic(np.append(scores, each), np.append(having, answer))
            assert found == pytest.approx(direct[float(each)])


@pytest.mark.parametrize("seed", range(5))
def test_the_two_probabilities_are_in_order_and_hold_the_fit_between_them(seed: int) -> None:
    scores, having = answers(80, seed)
    steps = fit(scores, having)
    p0, p1 = steps.at(np.linspace(0, 1, 501))
    assert np.all(p0 <= p1)
    assert np.all(np.diff(p0) >= -1e-12)
    assert np.all(np.diff(p1) >= -1e-12)
    between = isotonic(scores, having)
    low, high = steps.at(np.array(list(between)))
    middle = np.array(list(between.values()))
    assert np.all((low <= middle + 1e-12) & (middle <= high + 1e-12))


def test_the_one_with_the_true_answer_is_calibrated_exactly() -> None:
    """Each of n + 1 patients in turn is the new one: of those with p_y = v, the share v has it."""
    scores, having = answers(41, seed=7)
    by_value: dict[float, list[float]] = defaultdict(list)
    for new in range(len(scores)):
        others = np.arange(len(scores)) != new
        both = fit(scores[others], having[others]).at(scores[new : new + 1])
        by_value[round(float(both[int(having[new])][0]), 9)].append(float(having[new]))
    assert len(by_value) > 3
    for value, seen in by_value.items():
        assert np.mean(seen) == pytest.approx(value, abs=1e-8)


# Observed shares


@pytest.mark.parametrize(("having", "patients"), [(0, 10), (3, 10), (10, 10), (1, 500), (20, 20)])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_wilsons_interval_is_that_of_scipy(having: int, patients: int, alpha: float) -> None:
    found = wilson(having / patients, patients, alpha)
    other = binomtest(having, patients).proportion_ci(1 - alpha, method="wilson")
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-12)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_survival_by_hand() -> None:
    """Freireich's 21 patients on 6-MP, whose estimates stand in every text book (Cox 1972)."""
    events, left = [6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    time = np.array([*events, *left], dtype=float)
    event = np.array([1.0] * 9 + [0.0] * 12)
    for end, share, deviation in ((6, 0.857, 0.0764), (10, 0.753, 0.0963), (23, 0.448, 0.1346)):
        found, variance = kaplan_meier(time, event, end)
        assert found == pytest.approx(share, abs=5e-4)
        assert math.sqrt(variance) == pytest.approx(deviation, abs=5e-5)


def test_survival_without_censoring_is_a_share_with_wilsons_interval() -> None:
    time = np.arange(1.0, 21.0)
    (found,) = survival(time, np.ones(20), (6.0,), 0.1)
    assert found is not None
    assert vars(found) == pytest.approx(vars(wilson(14 / 20, 20, 0.1)))


def test_where_nobody_had_the_event_the_interval_is_that_of_those_who_were_followed() -> None:
    time = np.array([5.0] * 10 + [20.0] * 10)
    early, late = survival(time, np.zeros(20), (4.0, 10.0), 0.1)
    assert early is not None
    assert late is not None
    assert early.low == pytest.approx(wilson(1.0, 20, 0.1).low)
    assert late.low == pytest.approx(wilson(1.0, 10, 0.1).low)


def test_a_time_to_which_few_are_followed_has_no_survival_unless_all_had_the_event() -> None:
    time = np.array([5.0] * 20 + [30.0] * 4)
    event = np.array([1.0] * 10 + [0.0] * 14)
    assert [each is None for each in survival(time, event, (4.0, 20.0), 0.1)] == [False, True]
    (gone,) = survival(np.arange(1.0, 11.0), np.ones(10), (20.0,), 0.1)
    assert gone is not None
    assert (gone.value, gone.low) == (0.0, 0.0)
    assert 0.0 < gone.high < 0.5


@pytest.mark.parametrize("patients", [1, 19, 39, 40, 99, 100, 1000])
@pytest.mark.parametrize("distinct", [1, 2, 7, 2**40])
def test_no_group_is_smaller_than_twenty(patients: int, distinct: int) -> None:
    values = np.random.default_rng(patients).integers(0, distinct, patients) / distinct
    edges = group_edges(values)
    sizes = np.bincount(groups_of(edges, values), minlength=len(edges) + 1)
    assert len(sizes) <= 5
    assert patients < 40 or sizes.min() >= 20
    assert edges == tuple(sorted(edges))
    assert not set(edges) & set(values)
    if distinct == 2**40:  # no ties
        assert len(sizes) == max(1, min(5, patients // 20))
