"""Every cell stands beside baselines of its own settings, under the hash that its sites checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.mechanisms import Memory
from polyclinic_common.models.storage import load_vectors
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.plan import NoisePlan
from polyclinic_common.study import Study
from polyclinic_common.wire import PrivateUpdate, Reason, Refusal, TrainRequest
from polyclinic_server.optimizer import State
from polyclinic_simulations import simulate
from polyclinic_simulations.cells import in_two_hospitals
from polyclinic_simulations.comparison import TOGETHER, compare
from polyclinic_simulations.federation import build_federation, held_out, spread
from polyclinic_simulations.results import Result
from polyclinic_simulations.setting import Setting
from polyclinic_simulations.studies.made_up_hospitals import hospitals_of
from polyclinic_simulations.training import (
    SiteFactory,
    Trainer,
    start_weights,
    train_alone,
    train_federated,
)
from tests.conftest import small_study, small_table

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
    result = simulate(study, small_table(), modes=["local", "none"], epsilons=[1.0, 8.0])
    comparison = compare(study, result)
    assert comparison is not None
    for line in comparison.settings:
        found = replace(comparison, headline=line).baseline("local_only_private")
        assert (None if found is None else found.epsilon) == line.epsilon
        assert line.key == TOGETHER
        if found is not None:
            assert found.scores[0] == line.cells[0].baselines.local_only_private


def test_result_json_names_the_hash_of_what_was_really_run(tmp_path: Path) -> None:
    study = small_study(sites=4)
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


def test_a_site_of_one_setting_refuses_the_run_of_another() -> None:
    study, setting = small_study(), Setting("local", 1.0, "descent")
    made = build_federation(setting.apply(study), small_table(), seed=0)
    site = SiteFactory(made, setting, "run", Trainer())._make(0)
    weights = start_weights(made)
    for other in (Setting("none", None, "descent"), Setting("local", 2.0, "descent")):
        request = TrainRequest(other.apply(study).hash(), "run", 1, weights)
        assert site.answer(request, Memory()) == Refusal(Reason.NOT_APPROVED)
    request = TrainRequest(setting.apply(study).hash(), "run", 1, weights)
    assert isinstance(site.answer(request, Memory()), PrivateUpdate)


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
    """Unsampled: twice mu. Sampled: the sum of both Renyi curves, at most that of the dearer."""
    delta = 1e-5
    full = NoisePlan(multiplier=10.0, sampling_rate=1.0, steps=1, rounds=25)
    assert in_two_hospitals([full, full], delta) == pytest.approx(gdp.epsilon_of(1.0, delta))
    plans = [NoisePlan(3.0, 0.1, 10, 20), NoisePlan(6.0, 0.3, 4, 20)]
    curves = [200 * rdp.sampled_gaussian(0.1, 3.0), 80 * rdp.sampled_gaussian(0.3, 6.0)]
    found = in_two_hospitals(plans, delta)
    assert found >= rdp.epsilon_of(curves[0] + curves[1], delta)
    assert found == pytest.approx(rdp.epsilon_of(2 * np.maximum(*curves), delta))
    assert in_two_hospitals(plans[:1], delta) == pytest.approx(
        rdp.spent_epsilon(3.0, 0.1, 2 * 200, delta)
    )


@pytest.mark.parametrize("training", [{"rounds": 6}, SAMPLED])
def test_every_private_cell_says_what_two_hospitals_cost(training: dict[str, Any]) -> None:
    study = small_study(training=training)
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
