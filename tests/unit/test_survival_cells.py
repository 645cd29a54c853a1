"""What is read of survival from the noisy cells of one histogram is honest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.layout import Floats, make_layout
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.reading import GroupReading, Size, read_sum
from polyclinic_common.evaluation.statistic import (
    Judged,
    RiskHistogram,
    time_positions,
)
from polyclinic_common.evaluation.survival import (
    WEIGHTS,
    Risks,
    Seen,
    estimate,
    hazard_profile,
    predicted_curves,
)
from polyclinic_common.evaluation.survival_scores import observed_survival, statuses
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.predict import predict
from polyclinic_common.study import Study, parse_study
from polyclinic_common.study.outcomes import Survival
from polyclinic_server.rounds.metric_sums import merit
from polyclinic_server.rounds.observers import Checkpoint, Round
from polyclinic_server.rounds.state import KeptSum, State
from polyclinic_simulations.audit.coverage import PROFILE, Design, coverage, draw, study_of
from tests.kits.small import small_study
from tests.kits.survival_scores import integrated_brier, time_dependent_auc

STUDY = study_of("survival")
ENDS = tuple(float(end) for end in range(100, 900, 100))


def histogram() -> RiskHistogram:
    found = METRICS["c_index"].statistic(STUDY)
    assert isinstance(found, RiskHistogram)
    return found


def released(total: Floats, deviation: float, profile: Any = PROFILE) -> GroupReading:
    """Return what is read of everybody in a sum of the coverage study."""
    layout = make_layout(STUDY)
    return read_sum(layout, total, deviation, {"everywhere": Size(5000.0, 1.0)}, 20, profile)[0]


def cells_of(judged: Judged) -> Floats:
    return np.asarray(histogram().rows(judged).sum(axis=0))


def sum_of(judged: Judged, truth: Floats) -> Floats:
    return np.asarray(make_layout(STUDY).rows(judged, truth).sum(axis=0))


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 9), st.booleans()), min_size=30, max_size=80
    )
)
@settings(max_examples=100, deadline=None)
def test_patients_are_weighted_as_one_by_one(drawn: list[tuple[int, int, bool]]) -> None:
    """Events at ends of time bins; of two patients censored in a bin, one leaves at its start."""
    drawn = [*drawn, (1, 9, False)]  # somebody is followed beyond the grid
    risk_bin, when, event = (np.array(each) for each in zip(*drawn, strict=True))
    twice = np.where(event, 1, 2)
    first = np.append(True, np.diff(np.repeat(np.arange(len(drawn)), twice)) > 0)
    risk_bin, when, event = (np.repeat(each, twice) for each in (risk_bin, when, event))
    made = histogram()
    risk, happened = float(np.mean(made.edges)) + (risk_bin - 1.0), event & (when <= 8)
    times = 100.0 * np.where(event | ~first, when, when - 1)
    times += np.where(~event & first, 0.5, 0.0)  # just after the start
    in_cells = np.where(event, times, 100.0 * when - 50.0)
    cells = cells_of(Judged(risk, in_cells, happened.astype(float)))
    seen = statuses(Observed(times, happened.astype(float)), ENDS)
    cases, free = Seen.of(made, cells).weighted()
    observed = estimate(made, cells, PROFILE)["observed"].value
    for index, status in enumerate(seen):
        assert status is not None
        for counted, rows in ((cases, status.cases), (free, status.free)):
            exact = np.bincount(risk_bin[rows], status.weights[rows], minlength=3)
            assert counted[:, index] == pytest.approx(exact)
        assert observed[index] == pytest.approx(observed_survival(status))


@given(st.lists(st.floats(0.5, 200.0), min_size=51, max_size=51))
@settings(max_examples=100, deadline=None)
def test_weights_add_up_to_all_patients_at_every_time(counts: list[float]) -> None:
    seen = Seen.of(histogram(), np.array(counts))
    cases, free = seen.weighted()
    assert (cases + free).sum(axis=0) == pytest.approx(np.full(8, sum(counts)))


@given(st.lists(st.floats(5.0, 200.0), min_size=51, max_size=51), st.floats(0.5, 3.0))
@settings(max_examples=50, deadline=None)
def test_what_is_read_does_not_change_when_all_cells_are_scaled(
    counts: list[float], scale: float
) -> None:
    """The reason why cells may be taken as Poisson."""
    cells = np.array(counts)
    one, other = (estimate(histogram(), each, PROFILE) for each in (cells, scale * cells))
    for name in ("td_auc", "ibs", "observed", "predicted", "auc_at", "observed_in"):
        assert one[name].value == pytest.approx(other[name].value)
        assert np.tensordot(cells, one[name].slopes, axes=1) == pytest.approx(0.0, abs=1e-5)


def test_the_integrated_brier_score_and_the_auc_are_nearly_those_of_all_patients() -> None:
    judged, truth = draw("survival", 20_000, np.random.default_rng(3))
    curves = predicted_curves(
        replace(histogram(), positions=tuple(range(8))), judged.predicted, PROFILE
    )
    seen = statuses(Observed(judged.value, judged.event), ENDS)
    metrics = released(sum_of(judged, truth), 0.01).metrics
    auc, brier = metrics["td_auc"], metrics["ibs"]
    assert auc is not None
    assert brier is not None
    exact_auc, exact_brier = (
        time_dependent_auc(seen, judged.predicted),
        integrated_brier(seen, curves, ENDS),
    )
    assert exact_auc is not None
    assert exact_brier is not None
    assert auc.value == pytest.approx(exact_auc, abs=0.03)
    assert brier.value == pytest.approx(exact_brier, abs=0.01)


def test_risks_are_found_where_they_are_normal() -> None:
    made = histogram()
    for mean, deviation in ((made.edges[0], 0.5), (sum(made.edges) / 2, 1.2)):
        drawn = np.random.default_rng(1).normal(mean, deviation, 200_000)
        bins = np.searchsorted(made.edges, drawn)
        risks = Risks.of(made, np.bincount(bins, minlength=3).astype(float))
        assert (risks.mean, risks.deviation) == pytest.approx((mean, deviation), abs=0.02)
        exact = [float(drawn[bins == index].mean()) for index in range(3)]
        assert risks.means() == pytest.approx(exact, abs=0.02)
        assert risks.points() @ WEIGHTS == pytest.approx(risks.mean)
        assert np.square(risks.points() - risks.mean) @ WEIGHTS == pytest.approx(risks.deviation**2)


@given(st.lists(st.floats(-50.0, 400.0), min_size=3, max_size=3).filter(lambda p: sum(p) > 60.0))
def test_mean_risks_stay_within_their_bins_whatever_the_noise(patients: list[float]) -> None:
    made = histogram()
    low, middle, high = Risks.of(made, np.array(patients)).means()
    assert low < made.edges[0] < middle < made.edges[1] < high


def test_a_models_curve_is_what_its_risk_and_profile_say() -> None:
    """The private Brier score knows of a patient's prediction the risk alone; that is enough."""
    study = small_study("survival")
    encoding, random = Encoding(study), np.random.default_rng(2)
    weights = initial_weights(study, encoding, 0)
    weights = weights + random.normal(0.0, 0.5, weights.size)
    x = np.column_stack([random.normal(0.0, 1.0, (30, encoding.width - 1)), np.ones(30)])
    x[:, -1] *= encoding.intercept
    predicted = predict(study, encoding, weights, x)
    profile = hazard_profile(study, weights)
    made = METRICS["ibs"].statistic(study)
    assert isinstance(made, RiskHistogram)
    assert profile is not None
    assert predicted.survival is not None
    assert predicted_curves(made, predicted.value, profile) == pytest.approx(predicted.survival)
    assert hazard_profile(small_study("binary"), weights) is None


def approved(metrics: list[str] | None) -> Study:
    private: dict[str, Any] = {"subgroups": True}
    evaluation: dict[str, Any] = {"private": private}
    return small_study(
        "survival", evaluation=evaluation if metrics is None else evaluation | {"metrics": metrics}
    )


@pytest.mark.parametrize(
    "metrics", [["c_index"], None, ["ibs"], ["td_auc", "c_index"], ["ibs", "td_auc", "c_index"]]
)
def test_new_metrics_move_no_entry_and_no_price_of_a_release(metrics: list[str] | None) -> None:
    """The layout of a study that was approved with the concordance alone, number by number."""
    layout = make_layout(approved(metrics))
    assert layout.length == 139
    parts = [part for table in layout.tables for part in table.parts]
    assert [part.start for part in parts] == [0, 27, 28, 55, 56, 83, 84, 111, 112]
    overall, group = np.sqrt(0.5), [0.25, np.sqrt(3.0) / 4.0]
    assert [part.weight for part in parts] == pytest.approx(
        [overall, *group, *group, *group, *group]
    )
    assert layout.tables[0].parts[0].metric == (metrics or ["c_index"])[0]


def test_a_study_approved_with_the_concordance_alone_stays_as_it_is_and_shows_all_three() -> None:
    study = approved(["c_index"])
    again = parse_study(study.canonical(), "kept.toml")
    assert again.metrics == again.private_metrics == ("c_index",)
    assert again.hash() == study.hash()
    total = 200.0 * np.ones(make_layout(study).length)
    (everybody, *_) = read_sum(
        make_layout(study), total, 0.1, {"site 0": Size(5000.0, 1.0)}, 20, np.zeros(4)
    )
    assert set(everybody.metrics) == {"c_index", "td_auc", "ibs"}


def test_time_bins_end_at_every_time_of_a_short_grid_and_evenly_on_a_long_one() -> None:
    def ends(grid: int) -> tuple[int, ...]:
        outcome = small_study("survival").outcome
        assert isinstance(outcome, Survival)
        times = tuple(float(time) for time in range(1, grid + 1))
        return time_positions(outcome.model_copy(update={"grid": times}))

    for count in range(2, 9):
        assert ends(count) == tuple(range(count))
    for count in range(9, 60):
        found = ends(count)
        assert len(set(found)) == 8
        assert found[-1] == count - 1
        steps = np.diff((-1, *found))
        assert steps.max() - steps.min() <= 1


def test_who_is_followed_to_the_end_of_a_time_bin_was_followed_through_it() -> None:
    """Follow-up that is cut off at the end of the grid counts as beyond it, an event there not."""
    made = histogram()
    when = np.array([100.0, 100.0, 800.0, 800.0])
    event = np.array([1.0, 0.0, 1.0, 0.0])
    seen = Seen.of(made, cells_of(Judged(np.zeros(4), when, event)))
    events, ended = seen.events.sum(axis=0), seen.ended.sum(axis=0)
    assert np.flatnonzero(events).tolist() == [0, 7]
    assert np.flatnonzero(ended).tolist() == [1, 8]


def test_calibration_is_read_at_every_time_with_what_was_predicted() -> None:
    judged, truth = draw("survival", 20_000, np.random.default_rng(7))
    everybody = released(sum_of(judged, truth), 0.01)
    seen = statuses(Observed(judged.value, judged.event), ENDS)
    curves = predicted_curves(
        replace(histogram(), positions=tuple(range(8))), judged.predicted, PROFILE
    )
    assert [time.end for time in everybody.times] == list(ENDS)
    for index, time in enumerate(everybody.times):
        exact = observed_survival(seen[index])
        assert exact is not None
        assert time.observed is not None
        assert time.observed.value == pytest.approx(exact, abs=0.02)
        assert time.predicted == pytest.approx(curves[:, index].mean(), abs=0.01)
        assert [risk.observed is not None for risk in time.by_risk] == [True, True, True]
        predicted = [risk.predicted or 0.0 for risk in time.by_risk]
        assert predicted == sorted(predicted, reverse=True)


def test_what_is_not_clear_of_the_noise_is_not_shown() -> None:
    judged, truth = draw("survival", 3000, np.random.default_rng(8))
    total = sum_of(judged, truth)
    lost = released(total, 200.0)
    assert lost.metrics == {"c_index": None, "td_auc": None, "ibs": None}
    for time in lost.times:
        assert time.observed is time.auc is None
        assert all(risk.observed is None for risk in time.by_risk)
    clear = released(total, 0.1)
    assert all(reading is not None for reading in clear.metrics.values())


def test_followed_to_the_last_time_too_few_give_no_integrated_score() -> None:
    """Everybody's weight rests on those who are still followed: 30 of them are lost in noise 13."""
    cells = np.zeros((3, 17))
    cells[:, 0], cells[:, 8:15] = 400.0, 100.0  # events early, then ends of follow-up
    cells[:, 15:] = 5.0
    weight = make_layout(STUDY).tables[0].parts[0].weight
    layout = make_layout(STUDY)
    total = np.zeros(layout.length)
    total[layout.tables[0].parts[0].entries] = weight * cells.ravel()
    found = released(total, 13.0)
    assert found.metrics["ibs"] is found.metrics["td_auc"] is None
    assert found.times[0].observed is not None
    assert found.times[-1].observed is None


def test_without_knowing_the_model_the_brier_score_is_not_shown_and_the_rest_is() -> None:
    judged, truth = draw("survival", 8000, np.random.default_rng(9))
    found = released(sum_of(judged, truth), 0.1, None)
    assert found.metrics["ibs"] is None
    assert found.metrics["td_auc"] is not None
    assert found.times[0].predicted is None
    assert found.times[0].observed is not None


@pytest.mark.slow
def test_intervals_of_survival_hold_the_truth_as_often_as_they_say() -> None:
    """400 intervals of every metric, in a consortium: chance and lack decide who is summed over.

    At 95 % coverage fewer than 351 hits have probability 4e-9 (binomial), 6e-8 over three metrics
    and ten figures of single times; at 80 % coverage the test fails with probability 0.99997. With
    so many patients all 400 of them are shown.
    """
    found = coverage(Design("survival", 8000, 13.0, hospitals=4), 400)
    overall = {metric: share for (group, metric), share in found.items() if group == "all"}
    metrics = {metric: share for metric, share in overall.items() if metric in STUDY.metrics}
    assert set(metrics) == set(STUDY.metrics)
    assert all(share >= 0.8775 for share in metrics.values()), metrics
    at_times = [overall[f"survival at {end:g}"] for end in ENDS]
    at_times += [overall[f"AUC at {end:g}"] for end in ENDS[:2]]
    assert all(share >= 0.8775 for share in at_times), at_times


def test_a_lower_brier_score_is_the_better_release() -> None:
    assert merit("ibs", 0.15) > merit("ibs", 0.2) > merit("ibs", None)
    assert merit("td_auc", 0.7) > merit("td_auc", 0.6)


def test_what_a_release_needs_of_the_model_survives_a_restart(tmp_path: Path) -> None:
    kept = KeptSum(2, np.ones(3), ("site 0",), np.array([0.1, -0.1]))
    earlier = KeptSum(1, np.ones(3), ("site 0",))
    state = State(2, np.ones(3), np.zeros(3), np.ones(3), b"carried", (earlier, kept))
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    checkpoint.after_round(Round(2, {}, state))
    found = checkpoint.load()
    assert found is not None
    assert found.released[0].profile is None
    assert found.released[1].profile is not None
    assert found.released[1].profile.tolist() == [0.1, -0.1]
