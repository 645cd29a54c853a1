"""Level and slope, from noisy sums: right where there is no noise, careful where there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.errors import StudyError
from polyclinic_common.models.calibration import contributions, recalibrated
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Vector, logits, weight_count
from polyclinic_common.rowwise import expit
from polyclinic_server.rounds.calibration import SLOPE_DEVIATION, Calibrator
from polyclinic_server.rounds.observers import Checkpoint
from polyclinic_server.rounds.plan import make_calibrator, suggested_ridge
from polyclinic_server.rounds.state import Calibrated, State
from tests.kits.small import small_study, small_table

TRAINING: dict[str, Any] = {"rounds": 60, "calibration": {}}
STUDY = small_study(training=TRAINING)
ENCODING = Encoding(STUDY)
SIZES = {"site 0": 100, "site 1": 200, "site 2": 300}


def made(patients: int, shift: float, slope: float, seed: int = 0) -> tuple[Vector, Cohort]:
    """Return a model, and patients whose answers follow it after a shift and a slope."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(weight_count(build_network(STUDY, ENCODING)))
    weights[:-1] = rng.normal(0, 1.0, weights.size - 1)
    cohort = ENCODING.encode(small_table(patients, seed=seed), "site 0")
    truth = recalibrated(ENCODING, weights, shift, slope)
    chance = expit(logits(build_network(STUDY, ENCODING), truth, cohort.x))
    answers = (rng.random(chance.shape) < chance).astype(float)
    return weights, replace(cohort, y=answers)


def calibrated(
    weights: Vector, cohort: Cohort, deviation: float, steps: int = 4, seed: int = 0
) -> Calibrated:
    rng, calibrator = np.random.default_rng(seed), Calibrator(ENCODING, deviation)
    known = calibrator.begun(weights)
    for _ in range(steps):
        rows = contributions(ENCODING, calibrator.model(known), cohort.x, cohort.y, cohort.mask)
        total = rows.sum(axis=0) + rng.normal(0, deviation, 6)
        known = calibrator.step(known, total, hospitals=1)
    return known


def test_a_recalibrated_model_says_what_shift_and_slope_say() -> None:
    weights, cohort = made(50, 0.0, 1.0)
    network = build_network(STUDY, ENCODING)
    before, baseline = logits(network, weights, cohort.x), weights[-1] * ENCODING.intercept
    after = logits(network, recalibrated(ENCODING, weights, 0.3, 1.7), cohort.x)
    assert after == pytest.approx(baseline + 0.3 + 1.7 * (before - baseline))


@pytest.mark.parametrize(("shift", "slope"), [(0.8, 1.6), (-1.2, 0.6), (0.0, 1.0)])
def test_without_noise_many_patients_give_their_level_and_slope(shift: float, slope: float) -> None:
    """On average over 12 cohorts of 4,000; one cohort's slope has a standard error of 0.2."""
    found = [calibrated(*made(4000, shift, slope, seed), deviation=0.0).mean for seed in range(12)]
    assert np.mean(found, axis=0) == pytest.approx([shift, slope], abs=0.2)


def test_more_steps_change_less_than_chance_does() -> None:
    """The standard error of this cohort's slope is 0.16."""
    weights, cohort = made(4000, 0.8, 1.6)
    four, many = (calibrated(weights, cohort, 0.0, steps).mean for steps in (4, 30))
    assert four == pytest.approx(many, abs=0.12)


def test_the_noisier_the_sums_the_less_is_changed() -> None:
    weights, cohort = made(1000, 1.0, 1.8)

    def change(deviation: float) -> NDArray[np.float64]:
        seeds = range(40) if deviation else range(1)
        found = [calibrated(weights, cohort, deviation, seed=seed).mean for seed in seeds]
        return np.asarray(np.abs(np.mean(found, axis=0) - [0.0, 1.0]))

    moved = [change(deviation) for deviation in (0.0, 100.0, 1e4)]
    assert (moved[0] > moved[1]).all()
    assert (moved[1] > moved[2]).all()
    assert (moved[2] < [0.05, 0.05]).all()


def test_a_noisy_level_is_right_on_average_and_as_wide_as_it_says() -> None:
    """40 draws of a noise that counts: errors over what the precision claims have spread one."""
    weights, cohort = made(2000, 0.5, 1.0)
    exact = calibrated(weights, cohort, 0.0)
    errors = []
    for seed in range(40):
        found = calibrated(weights, cohort, 20.0, seed=seed)
        spread = np.sqrt(np.diag(np.linalg.inv(found.precision)))
        errors.append((found.mean - exact.mean) / spread)
    assert np.abs(np.mean(errors, axis=0)).max() < 0.6
    assert 0.5 < float(np.std(errors)) < 1.3


def test_slope_and_level_stay_within_bounds_whatever_was_summed() -> None:
    weights, _ = made(10, 0.0, 1.0)
    calibrator = Calibrator(ENCODING, 1.0)
    rng, known = np.random.default_rng(0), calibrator.begun(weights)
    for size in 10.0 ** np.linspace(-9, 12, 200):
        known = calibrator.step(known, rng.normal(0, size, 6), hospitals=3)
        assert np.isfinite(known.mean).all()
        assert 0.1 <= known.mean[1] <= 10.0
        assert np.isfinite(calibrator.model(known)).all()


def test_a_model_that_tells_nobody_apart_gets_its_level_and_keeps_its_slope() -> None:
    _, cohort = made(2000, 0.0, 1.0)
    weights = np.zeros(weight_count(build_network(STUDY, ENCODING)))
    cohort = replace(cohort, y=np.zeros_like(cohort.y))
    cohort.y[::4] = 1.0
    found = calibrated(weights, cohort, 0.0, steps=6)
    assert expit(np.array([found.mean[0]]))[0] == pytest.approx(0.25, abs=0.005)
    assert found.mean[1] == pytest.approx(1.0, abs=SLOPE_DEVIATION / 10)


def test_a_checkpoint_keeps_what_is_known_of_level_and_slope(tmp_path: Path) -> None:
    state, calibrator = State.start(made(10, 0.0, 1.0)[0]), Calibrator(ENCODING, 1.0)
    state = calibrator.advance(state, 61, np.array([5.0, 1.0, 20.0, 1.0, 1.0, 9.0]), hospitals=3)
    checkpoint = Checkpoint(tmp_path / "state", "run")
    checkpoint.write(state)
    back = checkpoint.load()
    assert back is not None
    assert state.calibrated is not None
    assert back.calibrated is not None
    for name in ("frozen", "mean", "precision"):
        assert (getattr(back.calibrated, name) == getattr(state.calibrated, name)).all()
    assert (back.average == state.average).all()
    assert (back.average != back.calibrated.frozen).any()


@pytest.mark.parametrize("mode", ["secure-sum", "local", "none"])
def test_the_known_noise_is_that_of_the_plan(mode: str) -> None:
    epsilon = None if mode == "none" else 1.0
    found = make_calibrator(small_study(training=TRAINING, privacy={"mode": mode}), epsilon, SIZES)
    assert found is not None
    assert (found.deviation == 0.0) == (mode == "none")
    assert make_calibrator(small_study(), epsilon, SIZES) is None


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
@pytest.mark.parametrize("rounds", [15, 60])
def test_the_ridge_of_one_release_is_that_of_a_round_over_the_root_of_the_rounds(
    mode: str, rounds: int
) -> None:
    def ridge(rule: str) -> float:
        training = {"rounds": rounds, "ridge": rule}
        return suggested_ridge(small_study(training=training, privacy={"mode": mode}), 1.0, SIZES)

    assert ridge("release") == pytest.approx(ridge("round") / np.sqrt(rounds))


def test_the_ridge_of_one_release_does_not_depend_on_the_rounds() -> None:
    found: list[NDArray[np.float64] | float] = [
        suggested_ridge(small_study(training={"rounds": rounds, "ridge": "release"}), 1.0, SIZES)
        for rounds in (10, 90)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_hospitals_with_models_of_their_own_have_no_calibration() -> None:
    with pytest.raises(StudyError) as refused:
        small_study(training={"rounds": 3, "personalisation": "mr-mtl", "calibration": {}})
    assert "calibration" in str(refused.value.problems)
