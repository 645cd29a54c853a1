"""Metrics leave only as one bounded, charged, noisy sum; a hospital refuses any beyond that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyclinic_client.journal import Left
from polyclinic_client.site_folder import SiteFolder
from polyclinic_common.privacy.plan import METRICS
from polyclinic_server.optimizer import State
from polyclinic_simulations.baselines import scores_of
from polyclinic_simulations.federation import Federation, SiteData, build_federation
from polyclinic_simulations.setting import Setting
from polyclinic_simulations.trainer import Trainer
from polyclinic_simulations.training import Trained, start_weights, train_federated
from tests.conftest import NoNoise, small_study, small_table

ROUNDS = 4
SITES = 4
KINDS = {"continuous": ("mae", "rmse", "within_20"), "binary": ("accuracy", "brier")}


def federation(mode: str, outcome: str = "continuous", **private: Any) -> Federation:
    evaluation = {"private": private}
    study = small_study(outcome, sites=SITES, training={"rounds": ROUNDS}, evaluation=evaluation)
    setting = Setting(mode, 1.0, "descent")
    return build_federation(setting.apply(study), small_table(400, sites=SITES), seed=0)


def train(made: Federation, folder: Path, noise: type = NoNoise) -> Trained:
    setting = Setting(made.study.privacy.mode, 1.0, "descent")
    start = State.start(start_weights(made))
    trainer = Trainer(noise=noise)
    return train_federated(made, setting, run_id="run", start=start, trainer=trainer, folder=folder)


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
    exact_size = property(lambda site: int(site.held_out.mask.sum()))
    monkeypatch.setattr(SiteData, "declared_held_out", exact_size)
    made = federation(mode, outcome, metrics=KINDS[outcome], error_bound=100)
    trained = train(made, tmp_path)
    (everybody,) = trained.metrics[-1].groups
    exact = scores_of(made, trained.weights).overall
    for metric in KINDS[outcome]:
        reading = everybody.metrics[metric]
        assert reading is not None
        assert reading.value == pytest.approx(exact[metric], rel=1e-3)
        assert reading.low < reading.value < reading.high
