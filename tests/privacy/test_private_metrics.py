"""Metrics leave only as one bounded, charged, noisy sum; a hospital refuses any beyond that."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Approval
from polyclinic_client.records.journal import Left
from polyclinic_common.errors import RunError
from polyclinic_common.evaluation.layout import make_layout
from polyclinic_common.evaluation.reading import RoundReadings, Size, read_sum
from polyclinic_common.evaluation.survival import hazard_profile
from polyclinic_common.models.predict import predict
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.releases.kinds import METRICS
from polyclinic_common.releases.schedule import Schedule, Scheduled
from polyclinic_common.study import Study, parse_study
from polyclinic_common.study.sections import Fraction
from polyclinic_server.rounds.metric_sums import MetricReader, has_stalled
from polyclinic_server.rounds.observers import Checkpoint
from polyclinic_server.rounds.plan import kept_kinds
from polyclinic_server.rounds.state import KeptSum, State
from polyclinic_simulations.baselines.baselines import scores_of
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, SiteData, build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import (
    Trained,
    start_weights,
    train_federated,
)
from tests.kits.noise import NoNoise
from tests.kits.small import small_study, small_table

ROUNDS = 4
SITES = 4
SHARE = Fraction().fraction  # that is held out
KINDS = {"continuous": ("mae", "rmse", "within_20"), "binary": ("accuracy", "brier")}


def federation(mode: str, outcome: str = "continuous", **private: Any) -> Federation:
    evaluation = {"private": private}
    study = small_study(outcome, sites=SITES, training={"rounds": ROUNDS}, evaluation=evaluation)
    setting = Setting(mode, 1.0, "descent")
    return build_federation(setting.apply(study), small_table(400, sites=SITES), seed=0)


def train(
    made: Federation, folder: Path, noise: type = NoNoise, checkpoint: Checkpoint | None = None
) -> Trained:
    setting = Setting(made.study.privacy.mode, 1.0, "descent")
    kept = checkpoint and checkpoint.load()
    return train_federated(
        made,
        setting,
        run_id="run",
        start=kept or State.start(start_weights(made)),
        observers=[checkpoint] if checkpoint else [],
        trainer=Trainer(noise=noise),
        folder=folder,
    )


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_metrics_are_charged_within_the_promise_of_the_study(mode: str, tmp_path: Path) -> None:
    trained = train(federation(mode, every=2, share=0.3), tmp_path)
    for budget in trained.budgets.values():
        assert 0.99 < budget.spent <= 1.0
        assert {line.kind: line.done for line in budget.lines}[METRICS] == 2


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_every_metric_vector_that_left_stands_in_the_journal_with_its_price(
    mode: str, tmp_path: Path
) -> None:
    train(federation(mode, every=2), tmp_path)
    for number in range(1, SITES + 1):
        with SiteFolder.open(tmp_path / f"{number:03d}") as site:
            held = [
                each.reserved
                for each in site.ledger.releases_of("run")
                if each.reserved.release.kind == METRICS
            ]
            left = [
                noted.event
                for noted in site.journal.events()
                if isinstance(noted.event, Left) and noted.event.cost in {h.fallback for h in held}
            ]
            assert len(held) == len(left) == 2


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
@pytest.mark.parametrize("outcome", KINDS)
def test_without_noise_the_reading_is_the_exact_metric(
    mode: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact_size = property(lambda site: round(site.held_out.mask.sum() / SHARE))
    monkeypatch.setattr(SiteData, "declared_in_all", exact_size)
    made = federation(mode, outcome, metrics=KINDS[outcome], error_bound=100)
    trained = train(made, tmp_path)
    (everybody,) = trained.metrics[-1].groups
    exact = scores_of(made, trained.weights).overall
    for metric in KINDS[outcome]:
        reading = everybody.metrics[metric]
        assert reading is not None
        assert reading.value == pytest.approx(exact[metric], rel=1e-3)
        assert reading.low < reading.value < reading.high


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_without_noise_survival_is_read_nearly_as_it_is(mode: str, tmp_path: Path) -> None:
    """A sum bears what reading it needs to know of the model.

    After so few rounds most patients share a risk bin: the concordance counts their pairs half.
    """
    made = federation(mode, "survival")
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    trained = train(made, tmp_path / "sites", checkpoint=checkpoint)
    state = checkpoint.load()
    assert state is not None
    (said,) = state.released
    sizes = {"site 0": Size(100.0, 1.0)}
    (all_,) = read_sum(make_layout(made.study), said.total, 1e-3, sizes, 1, said.profile)
    exact = scores_of(made, trained.weights).overall
    values = {name: reading.value for name, reading in all_.metrics.items() if reading}
    assert 0.5 < values["c_index"] < (exact["c_index"] or 0.0)
    assert values["td_auc"] == pytest.approx(exact["td_auc"], abs=0.06)
    assert values["ibs"] == pytest.approx(exact["ibs"], abs=0.02)
    predicted = predict(made.study, made.encoding, trained.weights, made.x_test).survival
    assert predicted is not None
    assert [time.predicted for time in all_.times] == pytest.approx(
        predicted.mean(axis=0).tolist(), abs=0.06
    )
    assert said.profile == pytest.approx(hazard_profile(made.study, trained.weights))


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
@pytest.mark.parametrize("outcome", KINDS)
def test_where_a_column_holds_out_patients_are_counted_in_the_sum_itself(
    mode: str, outcome: str, tmp_path: Path
) -> None:
    """Nothing public says how many: every table counts those with a known outcome."""
    private = {"metrics": KINDS[outcome], "error_bound": 100, "by_site": True, "share": 0.9}
    holdout = {"kind": "column", "column": "split", "test": "test"}
    study = small_study(
        outcome,
        sites=SITES,
        training={"rounds": ROUNDS},
        evaluation={"private": private, "holdout": holdout},
    )
    frame = small_table(1200, sites=SITES).astype({"dose": object})
    frame["split"] = ["test" if number % 7 < 3 else "train" for number in range(len(frame))]
    frame.loc[::11, ["dose", "response"]] = None
    made = build_federation(Setting(mode, 1.0, "descent").apply(study), frame, seed=0)
    trained = train(made, tmp_path)
    exact = scores_of(made, trained.weights)
    known = {site.name: int(site.held_out.mask.sum()) for site in made.sites}
    assert sum(known.values()) < sum(len(site.held_out) for site in made.sites)
    for group in trained.metrics[-1].groups:
        scores = exact.overall if group.kind == "overall" else exact.by_site[group.name]
        assert group.patients == pytest.approx(known.get(group.name, sum(known.values())), rel=1e-3)
        for metric in KINDS[outcome]:
            reading = group.metrics[metric]
            assert reading is not None
            assert reading.value == pytest.approx(scores[metric], rel=5e-3)  # grid


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_training_stops_when_what_was_released_no_longer_improves(
    mode: str, tmp_path: Path
) -> None:
    made = federation(mode, every=1, patience=1)
    still = replace(made, study=standing_still(made.study))
    assert train(still, tmp_path / "still").rounds == 2
    trained = train(still, tmp_path / "noisy", SystemNoise)
    values = [main_value(said) for said in trained.metrics]
    assert [said.round_number for said in trained.metrics] == list(range(1, trained.rounds + 1))
    better = [later < earlier for earlier, later in pairwise(values)]
    assert all(better[: trained.rounds - 2])
    assert trained.rounds == ROUNDS or not better[-1]
    for budget in trained.budgets.values():
        assert {line.done for line in budget.lines} == {trained.rounds}


def standing_still(study: Study) -> Study:
    """Return the study with so small a learning rate that no metric moves by a grid unit."""
    data = study.model_dump(mode="json", exclude_none=True)
    data["training"]["learning_rate"] = 1e-12
    return parse_study(data, study.id)


def main_value(said: RoundReadings) -> float:
    reading = said.groups[0].metrics["mae"]
    assert reading is not None
    return reading.value


def test_decisions_look_at_the_first_metric_where_patients_are_counted_too() -> None:
    holdout = {"kind": "column", "column": "split", "test": "test"}
    private = {"metrics": ["accuracy"], "every": 1, "patience": 1}
    study = small_study("binary", evaluation={"private": private, "holdout": holdout})
    made = MetricReader.of(study, Schedule.of(study, 1000).plan(METRICS), {})
    count, accuracy = made.layout.tables[0].parts

    def released(number: int, level: float) -> KeptSum:
        total = np.zeros(made.layout.length)
        total[count.entries], total[accuracy.entries] = 1000 * count.weight, 1000 * level
        return KeptSum(number, total, study.roster.sites)

    sums = [released(number, level) for number, level in enumerate((0.1, 0.3, 0.2))]
    assert made.choose(sums) == 1
    assert (made.stops(sums[:2]), made.stops(sums)) == (False, True)


def test_the_decision_to_stop_sees_released_sums_alone() -> None:
    assert not has_stalled([1.0], 1)
    assert not has_stalled([1.0, 2.0], 1)
    assert has_stalled([2.0, 1.0], 1)
    assert has_stalled([2.0, 2.0], 1)
    assert not has_stalled([2.0, 1.0], 2)
    assert has_stalled([2.0, 1.0, 2.0], 2)
    assert set(inspect.signature(MetricReader.stops).parameters) == {"self", "released"}


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_a_hospital_that_did_not_approve_metrics_releases_none(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Hospitals._approval

    def without(self: Hospitals, index: int) -> Approval:
        made = honest(self, index)
        planned = tuple(item for item in made.planned if item.kind != METRICS)
        return made.model_copy(update={"planned": planned})

    monkeypatch.setattr(Hospitals, "_approval", without)
    with pytest.raises(RunError, match="not_approved"):
        train(federation(mode), tmp_path)
    for number in range(1, SITES + 1):
        with SiteFolder.open(tmp_path / f"{number:03d}") as site:
            kinds = Counter(each.reserved.release.kind for each in site.ledger.releases_of("run"))
            assert set(kinds.values()) == {ROUNDS}
            assert METRICS not in kinds


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_a_hospital_releases_metrics_only_after_the_rounds_it_approved(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = federation(mode)

    def asking(*known: Any) -> tuple[Scheduled, ...]:
        return tuple(replace(each, rounds=range(1, ROUNDS + 1)) for each in kept_kinds(*known))

    monkeypatch.setattr("polyclinic_server.rounds.plan.kept_kinds", asking)
    with pytest.raises(RunError, match="out_of_order"):
        train(made, tmp_path)


class CutError(Exception):
    """The server is gone."""


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_a_run_cut_off_before_its_metrics_came_releases_them_once(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hospitals have answered, the server has lost it: it asks again, and gets the same."""
    made, whole = federation(mode, every=2), train(federation(mode, every=2), tmp_path / "whole")
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")

    def lost(*_: object) -> KeptSum:
        raise CutError

    with monkeypatch.context() as patched:
        patched.setattr("polyclinic_server.rounds.plan.RunPlan.keeping", lost)
        with pytest.raises(CutError):
            train(made, tmp_path / "sites", checkpoint=checkpoint)
    resumed = train(made, tmp_path / "sites", checkpoint=checkpoint)
    assert resumed.metrics == whole.metrics
    for budget in resumed.budgets.values():
        done = {line.kind: line.done for line in budget.lines}
        assert done[METRICS] == 2
        assert sum(done.values()) == ROUNDS + 2


def test_sampled_steps_and_metrics_together_keep_the_promise_under_renyi_accounting(
    tmp_path: Path,
) -> None:
    training = {"rounds": ROUNDS, "schedule": "sampled", "batch": 20, "strategy": "fedavg"}
    study = small_study(
        sites=SITES, training=training, evaluation={"private": {"share": 0.3, "every": 2}}
    )
    setting = Setting("local", 1.0, "fedavg")
    made = build_federation(setting.apply(study), small_table(400, sites=SITES), seed=0)
    start = State.start(start_weights(made))
    trained = train_federated(made, setting, run_id="run", start=start, folder=tmp_path)
    for budget in trained.budgets.values():
        assert 0.95 < budget.spent <= 1.0
        assert {line.kind: line.done for line in budget.lines} == {"update": ROUNDS, METRICS: 2}
