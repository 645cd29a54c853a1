"""What a patient adds to a metric sum is bounded; what is read from the sum is honest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyclinic_client.compute.metric_sums import SummedMetrics
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.layout import CLIP, Layout, make_layout
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import Observed, held_out_cohort
from polyclinic_common.evaluation.reading import Size, held_out_sizes, read_sum
from polyclinic_common.evaluation.statistic import Judged, RiskHistogram
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study import Study
from polyclinic_simulations.audit.coverage import Design, coverage, draw, study_of
from polyclinic_simulations.results.exact_metrics import score
from tests.kits.small import small_study, small_table

KINDS = ("continuous", "binary", "survival")
GRID = 2.0**-16


def study(kind: str, **private: Any) -> Study:
    private = {"subgroups": True, "by_site": True} | private
    return small_study(kind, evaluation={"private": private})


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_patient_adds_more_than_the_clip(kind: str, data: st.DataObject) -> None:
    made = study(kind)
    layout = make_layout(made)
    count, groups = 7, layout.tables[-1].member or 0
    numbers = st.floats(allow_nan=False, allow_infinity=True, width=64)
    columns = st.lists(arrays(np.float64, count, elements=numbers), min_size=3, max_size=3)
    predicted, value, event = data.draw(columns)
    site = np.eye(3)[data.draw(arrays(np.int64, count, elements=st.integers(0, 2)))]
    sex = np.eye(2)[data.draw(arrays(np.int64, count, elements=st.integers(0, 1)))]
    age = np.eye(2)[data.draw(arrays(np.int64, count, elements=st.integers(0, 1)))]
    truth = np.column_stack([value, event, site, sex, age])
    assert truth.shape[1] == groups + 1
    with np.errstate(all="ignore"):
        rows = layout.rows(Judged(predicted, value, event), truth)
    norms = np.linalg.norm(rows, axis=1)
    assert (np.isnan(norms) | (norms <= CLIP + 1e-12)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_one_patient_moves_the_integer_sum_by_no_more_than_the_clip(
    kind: str, scale: float
) -> None:
    encoding = Encoding(study(kind))
    weights = scale * np.random.default_rng(0).normal(size=initial_weights_size(encoding))
    cohort = held_out_cohort(encoding, hostile_table(), "site 0")
    sums = SummedMetrics(make_layout(encoding.study), encoding, CLIP, GRID)
    for index in range(len(cohort)):
        one = cohort.take(np.arange(len(cohort)) == index)
        moved = sums.integer_sum(np.clip(weights, -1e6, 1e6), [(one.x, one.y, one.mask)])
        assert sum(int(entry) ** 2 for entry in moved) <= (CLIP / GRID) ** 2


def initial_weights_size(encoding: Encoding) -> int:
    return initial_weights(encoding.study, encoding, 0).size


def hostile_table() -> Any:
    table = small_table(24).astype({"sex": object, "days": float, "dose": float})
    table.loc[0:2, "dose"] = [-1e300, 1e300, np.nan]
    table.loc[3:5, "days"] = [-1.0, 1e300, np.nan]
    table.loc[6:8, "age"] = [np.nan, -1e300, 1e300]
    table.loc[9, "sex"] = "unheard of"
    return table


@pytest.mark.parametrize("metric", ["auc", "c_index"])
def test_a_histogram_gives_nearly_the_metric_of_all_pairs(metric: str) -> None:
    made = study_of("binary" if metric == "auc" else "survival")
    judged, _ = draw("binary" if metric == "auc" else "survival", 4000, np.random.default_rng(1))
    histogram = METRICS[metric].statistic(made)
    assert isinstance(histogram, RiskHistogram)
    cells = histogram.rows(judged).sum(axis=0)
    ordered, counted = histogram.pairs()
    binned = float(cells @ ordered @ cells / (cells @ counted @ cells))
    exact = score(made, Observed(judged.value, judged.event), Prediction(judged.predicted))[metric]
    assert binned == pytest.approx(exact, abs=0.03)


def test_the_binned_pairs_are_those_counted_one_by_one() -> None:
    made = study_of("survival")
    judged, _ = draw("survival", 60, np.random.default_rng(2))
    histogram = METRICS["c_index"].statistic(made)
    assert isinstance(histogram, RiskHistogram)
    cells = histogram.rows(judged).sum(axis=0)
    risk = np.searchsorted(histogram.edges, judged.predicted)
    when = np.searchsorted(histogram.ends, judged.value)
    happened = (judged.event > 0.5) & (when < len(histogram.ends))
    pairs = [(i, j) for i in range(60) for j in range(60) if happened[i] and when[j] > when[i]]
    right = sum(1.0 if risk[i] > risk[j] else 0.5 * (risk[i] == risk[j]) for i, j in pairs)
    ordered, counted = histogram.pairs()
    assert cells @ counted @ cells == len(pairs)
    assert cells @ ordered @ cells == pytest.approx(right)


def test_small_groups_are_judged_by_the_noisy_count_alone() -> None:
    layout = make_layout(study("binary", by_site=False, smallest=50))
    entry = {t.name: t.parts[0] for t in layout.tables if t.kind == "subgroup"}
    truth_says_none = np.zeros(layout.length)
    noisy = truth_says_none.copy()
    noisy[entry["sex = male"].start] = 80 * entry["sex = male"].weight
    noisy[entry["sex = female"].start] = 49 * entry["sex = female"].weight
    groups = read_sum(layout, noisy, 0.1, {"site 0": Size(130.0, 0.0)}, 50)
    shown = {group.name: not group.suppressed for group in groups}
    assert shown["sex = male"]
    assert not shown["sex = female"]
    assert all(not g.metrics and not g.calibration for g in groups if g.suppressed)


def test_a_group_that_the_noise_could_have_made_up_is_not_shown() -> None:
    layout = make_layout(study("binary", by_site=False))
    part = next(t.parts[0] for t in layout.tables if t.name == "sex = male")
    total = np.zeros(layout.length)
    total[part.start] = 100 * part.weight
    for deviation, shown in ((30.0 * part.weight, True), (40.0 * part.weight, False)):
        groups = read_sum(layout, total, deviation, {"site 0": Size(130.0, 0.0)}, 20)
        male = next(group for group in groups if group.name == "sex = male")
        assert male.suppressed is not shown


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fraction", "column"])
@pytest.mark.parametrize("kind", ["continuous", "binary"])
def test_intervals_hold_the_truth_as_often_as_they_say(kind: Any, way: Any) -> None:
    """400 intervals of every metric, in a consortium: chance and lack decide who is summed over.

    At 95 % coverage fewer than 351 hits have probability 4e-9 (binomial), 5e-8 over twelve metrics;
    at 80 % coverage the test fails with probability 0.99997.
    """
    found = coverage(Design(kind, 3000, 13.0, hospitals=4, way=way), 400)
    overall = {metric: share for (group, metric), share in found.items() if group == "all"}
    assert set(overall) == set(study_of(kind).metrics)
    assert all(share >= 0.8775 for share in overall.values()), overall


def test_intervals_count_that_chance_decides_how_many_are_held_out() -> None:
    """With hardly any noise, and a mean near the end of its range, most of the error is that.

    At 95 % coverage fewer than 351 of 400 hits have probability 4e-9. Without that part of the
    variance 60 % of the intervals of the RMSE hold the truth, and 78 % of those of the MAE.
    """
    found = coverage(Design("continuous", 2000, 1.0, hospitals=2), 400)
    assert min(found["all", "mae"], found["all", "rmse"]) >= 0.8775


def test_the_number_held_out_is_public_or_counted_with_noise() -> None:
    declared = {"site 0": 400, "site 1": 80}
    sizes = held_out_sizes(study("binary"), declared)
    assert {site: size.value for site, size in sizes.items()} == {"site 0": 100.0, "site 1": 20.0}
    assert sizes["site 1"].variance == pytest.approx(80 * 0.25 * 0.75 + 0.25**2 * 100 / 12)
    assert held_out_sizes(study_of("binary", "column"), declared) == {}
    for way in ("fraction", "column"):
        layout = make_layout(study_of("binary", way))
        counted = {table.kind for table in layout.tables if table.count is not None}
        assert counted == ({"subgroup"} if way == "fraction" else {"overall", "subgroup"})


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_pairs_are_read_from_cells_alone(kind: Any) -> None:
    """AUC, C-index, calibration and times need no number of patients."""
    made = study(kind, subgroups=False, by_site=False)
    layout = make_layout(made)
    judged, _ = draw(kind, 4000, np.random.default_rng(3))
    truth = np.column_stack([judged.value, judged.event])
    total = layout.rows(judged, truth).sum(axis=0)
    readings = [
        read_sum(layout, total, 1.0, {"site 0": Size(patients, 50.0)}, 20)[0]
        for patients in (1000.0, 4000.0)
    ]
    metric = {"binary": "auc", "survival": "c_index"}[kind]
    assert readings[0].metrics[metric] == readings[1].metrics[metric] is not None
    assert readings[0].calibration == readings[1].calibration
    assert readings[0].times == readings[1].times


def test_a_studys_metrics_are_released_at_the_rounds_it_names() -> None:
    def rounds(**private: Any) -> tuple[int, ...]:
        return small_study(training={"rounds": 10}, evaluation={"private": private}).metric_rounds

    assert rounds() == (10,)
    assert rounds(every=4) == (4, 8, 10)
    assert rounds(every=5) == (5, 10)
    assert small_study().metric_rounds == ()


def test_the_tables_share_the_squared_norm_of_a_patient() -> None:
    layout: Layout = make_layout(study("continuous"))
    squared: dict[str, float] = {}
    for table in layout.tables:
        squared[table.name] = sum(part.weight**2 for part in table.parts)
    one_of_each_way = ("all", "site 0", "sex = male", "age ≥ 50")
    assert sum(squared[name] for name in one_of_each_way) == pytest.approx(1.0)
