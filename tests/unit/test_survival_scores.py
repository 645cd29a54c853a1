"""Exact survival scores: known answers by hand, of scikit-survival, and of Kaplan and Meier."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_gbsg2

from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.survival_scores import observed_survival, statuses
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.sections import METRICS_OF
from polyclinic_simulations.report.measures import measure_of
from polyclinic_simulations.results.exact_metrics import score
from tests.kits.small import small_study
from tests.kits.survival_scores import brier_scores, integrated_brier, pairs_at, time_dependent_auc

# Five patients: events at 1, 3 and 5, censored at 2 and 4. Still uncensored: all before 2, then
# 3/4 of them (one of four leaves), from 4 on 3/8 (one of two).
FIVE = Observed(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1.0, 0.0, 1.0, 0.0, 1.0]))
TIMES = (2.5, 4.5)
SURVIVAL = np.array([[0.5, 0.25], [0.5, 0.5], [0.75, 0.5], [0.8, 0.6], [0.9, 0.8]])
RISK = np.array([3.0, 9.0, 1.0, 2.0, 1.0])


def test_patients_who_are_seen_stand_for_those_who_are_not_by_hand() -> None:
    early, late = statuses(FIVE, TIMES)
    assert early is not None
    assert late is not None
    assert early.weights.tolist() == pytest.approx([1, 0, 4 / 3, 4 / 3, 4 / 3])
    assert late.weights.tolist() == pytest.approx([1, 0, 4 / 3, 0, 8 / 3])
    assert early.cases.tolist() == [True, False, False, False, False]
    assert late.free.tolist() == [False, False, False, False, True]


def test_the_brier_score_under_censoring_by_hand() -> None:
    third = Fraction(4, 3)
    early = (
        Fraction(1, 2) ** 2
        + third * (Fraction(1, 4) ** 2 + Fraction(1, 5) ** 2 + Fraction(1, 10) ** 2)
    ) / 5
    late = (
        Fraction(1, 4) ** 2 + third * Fraction(1, 2) ** 2 + Fraction(8, 3) * Fraction(1, 5) ** 2
    ) / 5
    seen = statuses(FIVE, TIMES)
    assert brier_scores(seen, SURVIVAL) == pytest.approx([float(early), float(late)])
    area = Fraction(5, 2) * early / 2 + 2 * (early + late) / 2
    assert integrated_brier(seen, SURVIVAL, TIMES) == pytest.approx(float(area / Fraction(9, 2)))


def test_the_time_dependent_auc_under_censoring_by_hand() -> None:
    """At 2.5 one case of risk 3 above 1, 2 and 1; at 4.5 risk 3 above 1, and 1 as high as 1."""
    early, late = statuses(FIVE, TIMES)
    assert pairs_at(early, RISK) == pytest.approx((4.0, 4.0))
    assert pairs_at(late, RISK) == pytest.approx((8 / 3 * (1 + 2 / 3), 8 / 3 * (1 + 4 / 3)))
    expected = (4 + 8 / 3 * 5 / 3) / (4 + 8 / 3 * 7 / 3)
    assert time_dependent_auc([early, late], RISK) == pytest.approx(expected)


def test_who_is_censored_at_a_time_is_without_the_event_then() -> None:
    """Follow-up that ends for everybody at the end of the grid leaves a score there."""
    everybody = Observed(np.array([50.0, 100.0, 100.0]), np.array([1.0, 1.0, 0.0]))
    (status,) = statuses(everybody, (100.0,))
    assert status is not None
    assert (status.cases.sum(), status.free.sum()) == (2, 1)
    assert status.weights.tolist() == [1.0, 1.0, 1.0]


def test_a_time_until_which_nobody_is_followed_has_no_score() -> None:
    seen = statuses(FIVE, (2.5, 6.0))
    assert seen[1] is not None  # the last patient had the event: all is known
    censored = Observed(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0]))
    seen = statuses(censored, (2.5, 6.0))
    assert seen[0] is not None
    assert seen[1] is None
    assert integrated_brier(seen, np.ones((3, 2)), (2.5, 6.0)) is None
    assert time_dependent_auc(seen, np.array([3.0, 2.0, 1.0])) == 1.0
    assert observed_survival(seen[1]) is None


def test_the_brier_scores_are_those_of_scikit_survival() -> None:
    """Its documentation gives 0.20881843 at 1825 days and 0.18158531 from 365 to 1825 for Cox's
    model on GBSG2 (version 0.23, `brier_score` and `integrated_brier_score`). It weighs an event
    by G at its time, we by G just before, so that the weights add up to n where times tie: with
    its choice our code gives both numbers to 3e-8, with ours they differ by 8e-5 and 3e-5.
    """
    table = load_gbsg2()
    columns = ["age", "estrec", "pnodes", "progrec", "tsize"]
    x = table[columns].assign(
        hormones=table.horTh == "yes", post=table.menostat == "Post", grade=table.tgrade.map(len)
    )
    x = x.astype(float)
    model = CoxPHFitter().fit(x.assign(time=table.time, event=table.cens), "time", "event")
    hazard = model.baseline_cumulative_hazard_.iloc[:, 0]
    times = tuple(map(float, range(365, 1826)))
    steps = np.searchsorted(hazard.index, times, side="right")
    relative = model.predict_partial_hazard(x).to_numpy()
    survival = np.exp(-np.outer(relative, np.append(0.0, hazard)[steps]))
    observed = Observed(table.time.to_numpy(float), table.cens.to_numpy(float))
    scores = [each for each in brier_scores(statuses(observed, times), survival) if each]
    assert len(scores) == len(times)
    assert scores[-1] == pytest.approx(0.20881843, abs=1e-4)
    integrated = np.trapezoid(scores, times) / (times[-1] - times[0])
    assert integrated == pytest.approx(0.18158531, abs=5e-5)


COUNTS = st.integers(min_value=3, max_value=40)


@st.composite
def patients(draw: st.DrawFn) -> Observed:
    """Draw patients whose times tie often."""
    count = draw(COUNTS)
    times = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    events = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return Observed(np.array(times, float), np.array(events, float))


@pytest.mark.slow
@given(observed=patients(), time=st.sampled_from([1.0, 2.5, 4.0, 6.5, 9.0]))
@settings(max_examples=200, deadline=None)
def test_weights_add_up_to_all_patients_and_give_kaplan_and_meier(
    observed: Observed, time: float
) -> None:
    (status,) = statuses(observed, (time,))
    if status is None:
        assert observed.value.max() <= time
        return
    assert status.weights.sum() == pytest.approx(len(observed.value))
    curve = KaplanMeierFitter().fit(observed.value, observed.event)
    expected = float(curve.survival_function_at_times(time).iloc[0])
    assert observed_survival(status) == pytest.approx(expected)


@given(observed=patients(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_the_auc_counts_pairs_as_counting_them_one_by_one_does(
    observed: Observed, data: st.DataObject
) -> None:
    count = len(observed.value)
    drawn = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    risk = np.array(drawn, float)
    (status,) = statuses(observed, (5.0,))
    if status is None:
        return
    pairs = [
        (status.weights[i] * status.weights[j], np.sign(risk[i] - risk[j]))
        for i, j in product(range(count), repeat=2)
        if status.cases[i] and status.free[j]
    ]
    ordered = sum(weight * (0.5 + 0.5 * sign) for weight, sign in pairs)
    assert pairs_at(status, risk) == pytest.approx((ordered, sum(weight for weight, _ in pairs)))


@given(observed=patients())
@settings(max_examples=100, deadline=None)
def test_a_constant_prediction_has_the_least_brier_score_at_the_kaplan_meier_estimate(
    observed: Observed,
) -> None:
    (status,) = statuses(observed, (5.0,))
    best = observed_survival(status)
    if best is None:
        return
    size = len(observed.value)
    least, *others = (
        brier_scores([status], np.full((size, 1), best + move))[0] or 0.0
        for move in (0.0, 0.1, -0.1)
    )
    assert least == pytest.approx(best * (1.0 - best))
    assert least < min(others)


def test_without_censoring_it_is_the_plain_brier_score() -> None:
    random = np.random.default_rng(4)
    time, survival = random.exponential(3.0, 200), random.random((200, 1))
    (found,) = brier_scores(statuses(Observed(time, np.ones(200)), (2.0,)), survival)
    assert found == pytest.approx(np.mean(np.square((time > 2.0) - survival[:, 0])))


def test_a_survival_study_reports_them_beside_the_concordance() -> None:
    study = small_study("survival")
    assert study.metrics == ("c_index", "td_auc", "ibs") == METRICS_OF["survival"]
    assert [metric for metric in METRICS if metric in study.metrics] == list(study.metrics)
    random = np.random.default_rng(5)
    days = random.exponential(300.0, 100)
    observed = Observed(np.minimum(days, 600.0), (days < 600.0).astype(float))
    survival = np.tile([0.8, 0.6, 0.4, 0.2], (100, 1))
    found = score(study, observed, Prediction(-days, survival))
    assert found["c_index"] == found["td_auc"] == 1.0
    assert found["ibs"] is not None
    assert 0.1 < found["ibs"] < 0.25
    assert score(study, observed, Prediction(-days))["ibs"] is None


def test_of_two_integrated_brier_scores_the_lower_is_the_better_one() -> None:
    study = small_study("survival")
    assert METRICS["ibs"].lower_is_better
    assert not METRICS["td_auc"].lower_is_better
    assert "lower is better" in measure_of(study, "ibs").axis
    assert "higher is better" in measure_of(study, "td_auc").axis
