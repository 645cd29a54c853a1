"""Training, then level and slope: whole runs, in every mode, with menus, stops and strategies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.calibration import contributions, recalibrated
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import cut, logits
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.rowwise import expit
from polyclinic_common.study import Study
from polyclinic_server.rounds.calibration import Calibrator
from polyclinic_server.rounds.observers import Checkpoint, Round
from polyclinic_server.rounds.plan import make_calibrator
from polyclinic_server.rounds.state import State
from polyclinic_simulations.baselines.alone import train_alone
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import Trained, start_weights, train_federated
from tests.kits.noise import NoNoise
from tests.kits.small import small_study, small_table

ROUNDS, STEPS = 5, 3
CALIBRATION: dict[str, Any] = {"rounds": ROUNDS, "calibration": {"steps": STEPS}}
CLOSE = {"secure-sum": "gradient", "local": "update"}


class Watched:
    """Keeps the state after every round."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def after_round(self, finished: Round) -> None:
        """Keep it."""
        self.states.append(finished.state)


class Cut(Exception):  # noqa: N818  (no error of the product)
    """The process ends here."""


def federation(kind: str = "binary", mode: str = "secure-sum", **more: Any) -> Federation:
    training = CALIBRATION | more.pop("training", {})
    study = small_study(kind, training=training, privacy={"mode": mode, "epsilon": 4.0}, **more)
    return build_federation(study, small_table(240), seed=0)


def train(
    made: Federation, folder: Path | None = None, *observers: Any, start: State | None = None
) -> Trained:
    study = made.study
    epsilon = None if study.privacy.mode == "none" else study.privacy.epsilon
    return train_federated(
        made,
        Setting(study.privacy.mode, epsilon, study.strategy),
        run_id="run",
        start=start or State.start(start_weights(made)),
        observers=observers,
        trainer=Trainer(noise=NoNoise),
        folder=folder,
    )


def released(folder: Path) -> Counter[str]:
    with SiteFolder.open(next(folder.iterdir())) as opened:
        return Counter(each.reserved.release.kind for each in opened.ledger.releases_of("run"))


def last_layer(study: Study, made: Federation, weights: Any) -> Any:
    return cut(build_network(study, made.encoding), weights).last


@pytest.mark.parametrize("mode", ["secure-sum", "local", "none"])
@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_the_score_is_frozen_and_level_and_slope_alone_are_changed(
    kind: str, mode: str, tmp_path: Path
) -> None:
    made, watched = federation(kind, mode), Watched()
    trained = train(made, tmp_path, watched)
    assert trained.rounds == len(watched.states) == ROUNDS + STEPS
    before, after = watched.states[ROUNDS - 1].average, watched.states[-1].average
    assert (trained.weights == after).all()
    known = watched.states[-1].calibrated
    assert known is not None
    slope = known.mean[1]
    assert slope != 1.0
    expected = slope * last_layer(made.study, made, before)
    assert last_layer(made.study, made, after) == pytest.approx(expected)
    if mode != "none":
        assert released(tmp_path) == {CLOSE[mode]: ROUNDS, "calibration": STEPS}


@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_in_secure_sum_and_in_none_the_same_is_done_where_nothing_is_clipped(kind: str) -> None:
    """Sums of all hospitals are sums of all hospitals; noise is left out."""
    made, watched = federation(kind, "none"), Watched()
    train(made, None, watched)
    frozen = watched.states[ROUNDS - 1].average
    known = watched.states[-1].calibrated
    assert known is not None
    calibrator = make_calibrator(made.study, None, made.declared)
    assert calibrator is not None
    again = calibrator.begun(frozen)
    pooled = made.pooled
    for _ in range(STEPS):
        model = calibrator.model(again)
        rows = contributions(made.encoding, model, pooled.x, pooled.y, pooled.mask)
        again = calibrator.step(again, rows.sum(axis=0), hospitals=3)
    assert again.mean == pytest.approx(known.mean, rel=1e-9)
    shift, slope = known.mean
    expected = recalibrated(made.encoding, frozen, float(shift), float(slope))
    assert watched.states[-1].average == pytest.approx(expected)


def test_a_flat_and_shifted_model_comes_out_right() -> None:
    """One round leaves it flat; then predicted are as many as there are, and they differ more."""
    made, watched = federation(mode="none", training={"rounds": 1}), Watched()
    train(made, None, watched)
    network, pooled = build_network(made.study, made.encoding), made.pooled
    before, after = (
        expit(logits(network, state.average, pooled.x)[:, 0])
        for state in (watched.states[0], watched.states[-1])
    )
    assert after.mean() == pytest.approx(pooled.y.mean(), abs=0.02)
    assert np.std(after) > 1.5 * np.std(before)


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_model_that_strategies_of_flower_combine_is_set_right_too(
    strategy: str, tmp_path: Path
) -> None:
    made = federation(mode="local", training={"strategy": strategy})
    assert train(made, tmp_path).rounds == ROUNDS + STEPS
    assert released(tmp_path) == {"update": ROUNDS, "calibration": STEPS}


def test_of_a_menu_the_chosen_model_is_set_right_and_measured_after(tmp_path: Path) -> None:
    menu = {"menu": [{"momentum": 0.5}, {"momentum": 0.9}]}
    made, watched = federation(training=menu, evaluation={"private": {}}), Watched()
    trained = train(made, tmp_path, watched)
    assert trained.chosen is not None
    assert watched.states[-1].calibrated is not None
    assert (watched.states[-1].calibrated.frozen == trained.candidates[trained.chosen]).all()
    rounds = [each.round_number for each in trained.metrics]
    assert rounds == [ROUNDS, 2 * ROUNDS, 2 * ROUNDS + STEPS]
    assert released(tmp_path) == {"gradient": 2 * ROUNDS, "calibration": STEPS, "metrics": 3}


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
@pytest.mark.parametrize("done", [ROUNDS, ROUNDS + 1])
def test_a_run_that_is_cut_off_goes_on_where_it_was_and_ends_with_the_same_model(
    done: int, mode: str, tmp_path: Path
) -> None:
    made = federation(mode=mode)
    whole = train(made, tmp_path / "whole")

    class Cutting:
        def after_round(self, finished: Round) -> None:
            if finished.number == done:
                raise Cut

    checkpoint = Checkpoint(tmp_path / "state", "run")
    with pytest.raises(Cut):
        train(made, tmp_path / "cut", checkpoint, Cutting())
    kept = checkpoint.load()
    assert kept is not None
    assert kept.round_number == done
    resumed = train(made, tmp_path / "cut", start=kept)
    assert resumed.rounds == whole.rounds
    assert resumed.weights == pytest.approx(whole.weights, abs=1e-12)
    assert released(tmp_path / "cut") == {CLOSE[mode]: ROUNDS, "calibration": STEPS}


def test_a_hospital_alone_calibrates_with_the_full_noise_of_mode_local(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody shares the noise with it, though its study is one of mode secure-sum."""
    made = build_federation(
        small_study(training={"rounds": 2, "calibration": {"steps": 1}}), small_table(60), seed=0
    )
    seen: list[float] = []

    def noted(encoding: Encoding, deviation: float) -> Calibrator:
        seen.append(deviation)
        return Calibrator(encoding, deviation)

    monkeypatch.setattr("polyclinic_simulations.baselines.alone.Calibrator", noted)
    site = made.training_sites[0]
    setting = Setting("secure-sum", 1.0, "descent")
    train_alone(made, site.train, site.declared, setting)
    local = small_study(
        privacy={"mode": "local"}, training={"rounds": 2, "calibration": {"steps": 1}}
    )
    assert seen == [Schedule.of(local, site.declared).plan("calibration").deviation]
    assert seen[0] > 1.2 * Schedule.of(made.study, site.declared).plan("calibration").deviation
