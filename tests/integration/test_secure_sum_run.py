"""A run of mode secure-sum costs what it says, survives outages, and stops below m."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.run.flower_app import Answers
from polyclinic_client.run.refusals import SilenceError
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.errors import RunError
from polyclinic_server.rounds.state import State
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import Trained, start_weights, train_federated
from tests.kits.small import small_study, small_table

SITES = tuple(f"site {index}" for index in range(4))
ROUNDS = 6
SETTING = Setting("secure-sum", 1.0, "descent")


def federation(**training: Any) -> Federation:
    study = small_study("continuous", sites=4, training={"rounds": ROUNDS} | training)
    return build_federation(SETTING.apply(study), small_table(200, sites=4), seed=0)


def train(made: Federation, folder: Path, drop: float = 0.0) -> Trained:
    setting = Setting("secure-sum", 1.0, "descent", drop=drop)
    start = State.start(start_weights(made))
    return train_federated(made, setting, run_id="run", start=start, folder=folder)


def test_every_hospital_pays_the_headline_price_and_no_more(tmp_path: Path) -> None:
    trained = train(federation(), tmp_path)
    assert trained.sums is not None
    promised = trained.sums.headline_epsilon(1e-5)
    assert 0.999 < promised <= 1.0
    for budget in trained.budgets.values():
        assert budget.spent == budget.settled == pytest.approx(promised)
        assert budget.fallback == pytest.approx(trained.sums.fallback_epsilon(1e-5))
        assert budget.releases == ROUNDS


def test_statistics_are_charged_within_the_same_promise(tmp_path: Path) -> None:
    trained = train(federation(start="statistics"), tmp_path)
    for budget in trained.budgets.values():
        assert 0.99 < budget.spent <= 1.0
        assert {line.kind: line.done for line in budget.lines} == {
            "statistics": 1,
            "gradient": ROUNDS,
        }


def test_an_outage_costs_the_fallback_of_that_round_and_the_run_goes_on(tmp_path: Path) -> None:
    made = federation(rounds=40)
    trained = train(made, tmp_path, drop=0.25)
    at_fallback = [sum(line.at_fallback for line in b.lines) for b in trained.budgets.values()]
    assert any(at_fallback), "with 160 chances of a quarter nobody was left out: impossible"
    for budget, lost in zip(trained.budgets.values(), at_fallback, strict=True):
        assert (budget.spent > 1.0) == (lost > 0)
        assert budget.spent <= budget.epsilon_cap
        assert budget.releases <= 40


def test_stored_vectors_are_erased_when_the_run_is_over(tmp_path: Path) -> None:
    train(federation(), tmp_path)
    for number in range(1, len(SITES) + 1):
        with SiteFolder.open(tmp_path / f"{number:03d}") as site:
            held = site.ledger.releases_of("run")
            assert len(held) == ROUNDS
            assert all(site.ledger.stored(each.reserved.release) is None for each in held)
            site.ledger.verify()
            site.journal.verify()


class _Mute:
    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        raise SilenceError


def test_fewer_than_m_hospitals_end_the_run_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Hospitals.site

    def site(hospitals: Hospitals, index: int) -> Answers:
        return _Mute() if index < 2 else real(hospitals, index)

    monkeypatch.setattr(Hospitals, "site", site)
    with pytest.raises(RunError, match="site 0: silent; site 1: silent"):
        train(federation(), tmp_path)


def test_one_hospital_less_than_all_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Hospitals.site

    def site(hospitals: Hospitals, index: int) -> Answers:
        return _Mute() if index < 1 else real(hospitals, index)

    monkeypatch.setattr(Hospitals, "site", site)
    trained = train(federation(), tmp_path)
    spent = [trained.budgets[name].spent for name in SITES]
    assert spent[0] == 0.0
    assert spent[1] == spent[2] == spent[3] == pytest.approx(1.0, abs=1e-3)
