"""Resampled metrics are the metrics of resampled patients, and intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.contract import time_grid
from polyclinic_simulations.results.exact_metrics import reported_metrics, score
from polyclinic_simulations.results.intervals import gap, half_width
from polyclinic_simulations.results.resampling import RESAMPLES, patient_weights, resampled
from polyclinic_simulations.results.results import Scores
from tests.kits.small import small_study

IPCW = {"td_auc": 0.05, "ibs": 0.03}  # censoring is that of all patients, not of the resample
KINDS = ("binary", "continuous", "survival")


def patients(kind: str, count: int, seed: int) -> tuple[Observed, Prediction]:
    observed, value = _patients(kind, count, seed)
    grid = np.array(time_grid(small_study("survival")))
    survival = np.exp(-np.outer(0.02 + value, grid / 300.0)) if kind == "survival" else None
    return observed, Prediction(value, survival)


def _patients(kind: str, count: int, seed: int) -> tuple[Observed, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    predicted = np.round(rng.random(count), 1)  # with ties
    if kind == "binary":
        return Observed((rng.random(count) < predicted).astype(float), np.ones(count)), predicted
    if kind == "continuous":
        return Observed(predicted + rng.normal(0, 0.3, count), np.ones(count)), predicted
    time = rng.integers(1, 500, count).astype(float)
    return Observed(time, (rng.random(count) < 0.6).astype(float)), predicted


@pytest.mark.parametrize("kind", KINDS)
def test_a_resampled_metric_is_the_metric_of_the_patients_as_often_as_they_count(kind: str) -> None:
    study = small_study(kind)
    observed, predicted = patients(kind, 80, 1)
    observed.value[3], predicted.value[5] = np.nan, np.nan
    weights = patient_weights([f"P{index}" for index in range(80)])
    metrics = reported_metrics(study, observed.value)
    found = resampled(observed, predicted, weights, metrics, time_grid(study))
    assert set(found) == set(metrics)
    for place in (0, 7, RESAMPLES - 1):
        times = weights[:, place].astype(int)
        again = Observed(np.repeat(observed.value, times), np.repeat(observed.event, times))
        expected = score(study, again, predicted.take(np.repeat(np.arange(80), times)))
        for metric in metrics:
            apart = abs((found[metric][place] or 0.0) - (expected[metric] or 0.0))
            assert apart <= IPCW.get(metric, 1e-9), metric


def test_a_patient_counts_alike_for_every_model_in_every_run_and_order() -> None:
    weights = patient_weights(["a", "b", "c"])
    np.testing.assert_array_equal(weights[::-1], patient_weights(["c", "b", "a"]))
    many = patient_weights([str(index) for index in range(2000)])
    assert many.mean() == pytest.approx(1.0, abs=0.01)
    assert many.var() == pytest.approx(1.0, abs=0.02)


def test_a_metric_that_a_resample_leaves_undefined_is_null() -> None:
    observed = Observed(np.array([1.0, 0.0, 0.0]), np.ones(3))
    found = resampled(
        observed, Prediction(np.array([0.5, 0.2, 0.9])), patient_weights(["a", "b", "c"]), ["auc"]
    )
    assert None in found["auc"]
    assert any(value is not None for value in found["auc"])


def scores(metric: str, value: float, drawn: NDArray[np.float64]) -> Scores:
    overall = dict.fromkeys(METRICS, None) | {metric: value}
    resamples: list[float | None] = [float(each) for each in drawn]
    return Scores(overall=overall, by_site={}, by_subgroup={}, resampled={metric: resamples})


def test_an_interval_holds_sampling_and_noise() -> None:
    rng = np.random.default_rng(0)
    sampling = rng.normal(0, 0.03, RESAMPLES)
    noise = (-0.02, 0.0, 0.02, 0.01, -0.01)
    pairs = [
        (
            scores("auc", 0.80 + step, 0.80 + step + sampling),
            scores("auc", 0.75, np.full(200, 0.75)),
        )
        for step in noise
    ]
    found = gap([*pairs], "auc", noiseless=False)
    assert found is not None
    assert found.sampling == pytest.approx(np.var(sampling, ddof=1))
    assert found.noise == pytest.approx(np.var(noise, ddof=1) / len(noise))
    assert not found.clear  # 0.05 is clear of the noise alone (0.007), not of other test patients
    alone = gap([*pairs], "auc", noiseless=True)
    assert alone is not None
    assert alone.noise == 0.0


def test_what_all_patients_share_is_taken_off_patient_by_patient() -> None:
    sampling = np.random.default_rng(0).normal(0, 0.05, RESAMPLES)
    pair = (scores("auc", 0.81, 0.81 + sampling), scores("auc", 0.80, 0.80 + sampling))
    found = gap([pair], "auc", noiseless=True)
    assert found is not None
    assert found.clear


def test_nothing_is_clear_in_one_run_with_noise_or_without_resamples() -> None:
    steps = np.full(RESAMPLES, 0.0)
    pair = (scores("auc", 0.9, 0.9 + steps), scores("auc", 0.5, 0.5 + steps))
    one = gap([pair], "auc", noiseless=False)
    bare = gap([(scores("auc", 0.9, steps[:0]), scores("auc", 0.5, steps[:0]))] * 3, "auc",
               noiseless=False)  # fmt: skip
    for found in (one, bare):
        assert found is not None
        assert found.interval is None
        assert not found.clear


@pytest.mark.parametrize("runs", [2, 3, 10])
def test_intervals_hold_the_truth_as_often_as_they_say(runs: int) -> None:
    """4,000 means of `runs` runs with sampling and noise of equal size; drawn from a fixed seed."""
    rng = np.random.default_rng(runs)
    held = 0
    for _ in range(4000):
        values = rng.normal(0, 1) / np.sqrt(runs) + rng.normal(0, 1, runs)
        noise = float(np.var(values, ddof=1)) / runs
        held += abs(values.mean()) <= half_width(1.0 / runs, noise, runs)
    assert 0.925 <= held / 4000 <= 0.99


def test_a_rare_outcome_is_never_headlined_by_accuracy() -> None:
    rare, common = np.repeat([1.0, 0.0], [7, 93]), np.repeat([1.0, 0.0], [45, 55])
    default = small_study("binary")
    named = small_study("binary", evaluation={"metrics": ["accuracy", "auc"]})
    assert reported_metrics(default, rare) == ("auc", "brier", "accuracy")
    assert reported_metrics(default, common) == ("auc", "brier", "accuracy")
    assert reported_metrics(named, rare) == ("auc", "brier", "accuracy")
    assert reported_metrics(named, common) == ("accuracy", "auc")
    brier = small_study("binary", evaluation={"metrics": ["brier", "accuracy"]})
    assert reported_metrics(brier, rare) == ("brier", "accuracy")
