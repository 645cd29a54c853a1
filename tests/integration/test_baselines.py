"""Every cell stands beside baselines of its own settings, under the hash that its sites checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.run.update_responder import Memory
from polyclinic_common.data.holdout import held_out
from polyclinic_common.models.vectors import load_vectors
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.account import two_hospitals_epsilon
from polyclinic_common.privacy.charges import GaussianSum, SampledSteps
from polyclinic_common.study import Study
from polyclinic_common.wire import (
    PrivateUpdate,
    Reason,
    Refusal,
    Release,
    TrainRequest,
    decode_reply,
    encode_request,
)
from polyclinic_server.rounds.state import State
from polyclinic_simulations import simulate
from polyclinic_simulations.baselines.alone import train_alone
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import build_federation, spread
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from polyclinic_simulations.report.comparison import TOGETHER, compare
from polyclinic_simulations.results.results import Result
from polyclinic_simulations.studies.made_up_hospitals import hospitals_of
from tests.kits.small import small_study, small_table

TRAINED = ("pooled_same_trainer", "local_only_non_private")
SAMPLED: dict[str, Any] = {"rounds": 4, "schedule": "sampled", "batch": 16}
WHOLE_COHORT: dict[str, Any] = {"rounds": 5, "schedule": "sampled", "batch": 1000, "pull": 0.5}


def swept(study: Study, strategies: list[str], **options: Any) -> Result:
    table = small_table(160, 4)
    return simulate(study, table, modes=["none"], strategies=strategies, **options)


def test_every_cell_of_a_sweep_has_the_baselines_of_its_own_strategy() -> None:
    study = small_study(sites=4, training={"rounds": 20})
    swept_cells = swept(study, ["descent", "fedavg", "fedadam", "krum"]).cells
    descent, fedavg, fedadam, krum = (cell.baselines for cell in swept_cells)
    for name in TRAINED:
        assert len({str(getattr(b, name)) for b in (descent, fedavg, fedadam)}) == 3
        assert getattr(krum, name) == getattr(fedavg, name)
    assert descent.pooled_converged == fedadam.pooled_converged
    for cell in swept_cells:
        alone = swept(study, [cell.strategy]).cells[0]
        assert cell.baselines == alone.baselines


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad"])
def test_a_hospital_alone_is_a_federation_of_one(strategy: str) -> None:
    """The whole cohort in every step and no noise: nothing is left to chance."""
    training = WHOLE_COHORT | {"strategy": strategy, "epochs": 2}
    made = build_federation(small_study(training=training), small_table(), seed=0)
    one = replace(made, sites=made.sites[:1])
    site, setting = one.sites[0], Setting("none", None, strategy)
    alone = train_alone(one, site.train, site.declared, setting)
    start = State.start(start_weights(one))
    together = train_federated(one, setting, run_id="run", start=start).weights
    np.testing.assert_allclose(alone, together, rtol=1e-12)
    assert not np.allclose(alone, start.weights)


def test_a_setting_is_compared_with_its_own_baselines() -> None:
    study = small_study(sites=4, training={"rounds": 8, "strategy": "fedadam"})
    result = swept(study, ["fedavg", "fedadam", "krum"], sites=[2, 4])
    comparison = compare(study, result)
    assert comparison is not None
    own = [b for b in comparison.baselines if b.key == "local_only_non_private"]
    assert len(own) == 4
    assert "Own hospital only, no privacy, 2 hospitals, fedavg/krum" in [b.label for b in own]
    pooled = [b.label for b in comparison.baselines if b.key == "pooled_same_trainer"]
    assert "Pooled data, same training, 4 hospitals, fedadam" in pooled
    trivial = [b.label for b in comparison.baselines if b.key == "trivial"]
    assert trivial == [
        "Same prediction for everybody, 2 hospitals",
        "Same prediction for everybody, 4 hospitals",
    ]
    for line in comparison.settings:
        beside = replace(comparison, headline=line)
        for name in (*TRAINED, "pooled_converged", "trivial"):
            found = beside.baseline(name)
            assert found is not None
            assert found.scores[0] == getattr(line.cells[0].baselines, name)


def test_the_private_hospital_alone_belongs_to_one_budget() -> None:
    study = small_study()
    modes = ["secure-sum", "local", "none"]
    result = simulate(study, small_table(), modes=modes, epsilons=[1.0, 8.0])
    comparison = compare(study, result)
    assert comparison is not None
    for line in comparison.settings:
        found = replace(comparison, headline=line).baseline("local_only_private")
        assert (None if found is None else found.epsilon) == line.epsilon
        assert line.key == TOGETHER
        if found is not None:
            assert found.scores[0] == line.cells[0].baselines.local_only_private


def test_result_json_names_the_hash_of_what_was_really_run(tmp_path: Path) -> None:
    study = small_study(sites=4, privacy={"mode": "local"})
    simulate(
        study,
        small_table(160, 4),
        modes=["local", "none"],
        epsilons=[1.0, 2.0],
        strategies=["descent", "fedavg"],
        drops=[0.0, 0.1],
        out=tmp_path,
    )
    result = json.loads((tmp_path / "result.json").read_text())
    models = [load_vectors(path)[1]["study_hash"] for path in (tmp_path / "models").iterdir()]
    assert sorted(models) == sorted(cell["study_hash"] for cell in result["cells"])
    hashes = {}
    for cell in result["cells"]:
        setting = Setting(
            *(cell[name] for name in ("mode", "epsilon", "strategy", "sites", "drop"))
        )
        ran = setting.apply(study)
        assert (ran.privacy.mode, ran.strategy) == (cell["mode"], cell["strategy"])
        assert cell["epsilon"] in {None, ran.privacy.epsilon}
        assert cell["study_hash"] == ran.hash()
        hashes[setting] = cell["study_hash"]
    assert hashes[Setting("local", 1.0, "descent")] == result["study_hash"] == study.hash()
    assert len(set(hashes.values())) == 6  # three budgets by two strategies; dropout is no part


def test_a_site_of_one_setting_refuses_the_run_of_another(tmp_path: Path) -> None:
    study, setting = small_study(), Setting("local", 1.0, "descent")
    made = build_federation(setting.apply(study), small_table(), seed=0)
    hospitals = Hospitals(made, setting, "run", Trainer(), tmp_path)
    hospitals.found()
    weights = start_weights(made)

    def ask(asked: Setting) -> Release:
        request = TrainRequest(asked.apply(study).hash(), "run", 1, "update", weights)
        return decode_reply(hospitals.site(0).answer(encode_request(request), Memory()))

    others = [("none", None), ("local", 2.0), ("secure-sum", 1.0)]
    for other in (Setting(mode, epsilon, "descent") for mode, epsilon in others):
        assert ask(other) == Refusal(Reason.NOT_APPROVED)
    assert isinstance(ask(setting), PrivateUpdate)
    hospitals.close()


def test_formulas_are_counted_where_they_can_be_computed() -> None:
    table = small_table()
    table["published rule"] = table.dose.where(table.sex == "male")
    table["published constant"] = 40.0
    beside = simulate(small_study("continuous"), table, modes=["none"]).cells[0].baselines
    test = table[held_out(small_study("continuous"), table, 0)]
    assert beside.test_patients == len(test)
    men = int((test.sex == "male").sum())
    assert beside.published_patients == {"rule": men, "constant": len(test)}
    assert 0 < men < len(test)


def test_a_patient_of_two_hospitals_is_charged_for_both() -> None:
    """Unsampled: twice mu. Sampled: the Renyi curve of the steps of both hospitals."""
    delta, variance = 1e-5, 2**40
    full = GaussianSum(sensitivity=2**20 / 10, variance=variance, shares=1, length=6)
    assert full.mu == pytest.approx(0.1)
    found = two_hospitals_epsilon({full: 25}, delta)
    assert found == pytest.approx(gdp.epsilon_of(2 * 0.5, delta), rel=1e-3)
    steps = SampledSteps(rate=0.1, multiplier=3.0, steps=10)
    both = rdp.spent_epsilon(3.0, 0.1, 2 * 200, delta)
    assert two_hospitals_epsilon({steps: 20}, delta) == pytest.approx(both)


@pytest.mark.parametrize(
    ("mode", "training"),
    [("secure-sum", {"rounds": 6}), ("local", {"rounds": 6}), ("local", SAMPLED)],
)
def test_every_private_cell_says_what_two_hospitals_cost(
    mode: str, training: dict[str, Any]
) -> None:
    study = small_study(training=training, privacy={"mode": mode})
    privacy = simulate(study, small_table(), epsilons=[1.0]).cells[0].privacy
    assert privacy.epsilon is not None
    assert privacy.epsilon_two_hospitals is not None
    assert 1.3 * privacy.epsilon < privacy.epsilon_two_hospitals < 3.0 * privacy.epsilon


def test_made_up_hospitals_follow_one_rule_that_can_be_repeated_by_hand() -> None:
    shares = [1.0, 2**-0.7, 3**-0.7]
    ends = [sum(shares[: k + 1]) / sum(shares) for k in range(3)]

    def by_hand(text: str) -> str:
        place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        return f"hospital {1 + sum(place >= end for end in ends):02d}"

    table = small_table(50)
    assert hospitals_of("gbsg2", range(50), 3) == [by_hand(f"gbsg2|{row}") for row in range(50)]
    spread_table = spread(small_study(), table, 3)
    assert list(spread_table.hospital) == [by_hand(f"{n}|spread") for n in table.patient]
