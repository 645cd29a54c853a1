"""Every strategy is Flower's own, weighted by declared sizes, and costs what is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedYogi

from polyclinic_client.compute.integers import Moment
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import StudyError
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy import rdp
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.releases.plans import CHANGE_EXPONENT, noise_plan
from polyclinic_common.wire import PrivateUpdate, TrainRequest, decode_reply, encode_request
from polyclinic_server.rounds.combiner import Descent, FlowerStrategy, make_combiner, make_strategy
from polyclinic_server.rounds.observers import Round
from polyclinic_server.rounds.state import State
from polyclinic_simulations import simulate
from polyclinic_simulations.compute.plain import SeededSampler
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.engines.inline import SERVER_NODE
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.observers import SiteModels
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.small import small_study, small_table

STRATEGIES = [
    "fedavg",
    "fedprox",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
]
SAMPLED: dict[str, Any] = {"rounds": 4, "schedule": "sampled", "batch": 16}


@pytest.fixture
def identity() -> None:
    """Messages need the identity of their sender, as in a ServerApp."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER_NODE


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("schedule", ["full", "sampled"])
def test_every_strategy_trains(strategy: str, schedule: str) -> None:
    training = SAMPLED | {"schedule": schedule, "rounds": 8}
    if (strategy, schedule) == ("fedprox", "full"):
        with pytest.raises(StudyError):
            small_study(training=training | {"strategy": strategy})
        return
    study = small_study(sites=4, training=training)
    result = simulate(
        study, small_table(400, 4), modes=["none"], strategies=[strategy], gradients="opacus"
    )
    (cell,) = result.cells
    assert cell.strategy == strategy
    assert (cell.test.overall["accuracy"] or 0) > 0.6


def updates(declared: dict[str, int], seed: int = 0) -> dict[str, Vector]:
    rng = np.random.default_rng(seed)
    return {site: rng.normal(0, 0.1, 3) for site in declared}


def test_fedavg_weighs_by_declared_patients(identity: None) -> None:
    declared = {"a": 30, "b": 10}
    study = small_study(training={"rounds": 5, "strategy": "fedavg"})
    combiner = make_combiner(study, np.zeros(3), 0.0, declared)
    state = State.start(np.array([1.0, 2.0, 3.0]))
    changes = updates(declared)
    after = combiner.step(state, changes)
    np.testing.assert_allclose(after.weights, state.weights + (3 * changes["a"] + changes["b"]) / 4)


@pytest.mark.parametrize("strategy", ["fedadam", "fedyogi", "fedadagrad", "fedmedian", "krum"])
def test_a_run_of_a_strategy_goes_on_from_its_state_alone(strategy: str, identity: None) -> None:
    """Two rounds by one combiner equal two rounds by two combiners that only share the state."""
    declared = {"a": 30, "b": 10, "c": 20, "d": 20}
    study = small_study(sites=4, training={"rounds": 5, "strategy": strategy})
    one = make_combiner(study, np.zeros(3), 0.0, declared)
    state = one.step(State.start(np.ones(3)), updates(declared, 1))
    together = one.step(state, updates(declared, 2))
    fresh = make_combiner(study, np.zeros(3), 0.0, declared)
    assert np.array_equal(fresh.step(state, updates(declared, 2)).weights, together.weights)


def test_the_strategies_keep_flowers_contract(identity: None) -> None:
    """What the combiner relies on: moments by name in `m_t` and `v_t`, `current_arrays`."""
    for kind in (FedAdam, FedYogi, FedAdagrad):
        strategy = kind()
        assert (strategy.m_t, strategy.v_t, strategy.current_arrays) == (None, None, None)
    combiner = FlowerStrategy(FedAdam(), {"a": 10}, 5, 0.5)
    combiner.step(State.start(np.ones(3)), {"a": np.full(3, 0.1)})
    assert set(combiner.strategy.m_t or {}) == {"weights"}  # type: ignore[attr-defined]
    assert isinstance(make_strategy(small_study(training={"strategy": "fedavg"})), FedAvg)
    arrays, metrics = FedAvg().aggregate_train(1, [])
    assert (arrays, metrics) == (None, None)
    assert ArrayRecord is not None


def test_sampled_accounting_counts_what_is_done() -> None:
    study = small_study(training=SAMPLED | {"epochs": 2})
    plan = noise_plan(study, declared=40, epsilon=1.0)
    assert plan.sampling_rate == 16 / 40
    assert plan.steps == 5
    spent = rdp.spent_epsilon(plan.multiplier, 0.4, 5 * 4, 1e-5)
    assert plan.spent_epsilon(1e-5) == spent <= 1.0
    assert spent > 0.99
    small = noise_plan(study, declared=10, epsilon=1.0)
    assert (small.sampling_rate, small.steps) == (1.0, 2)


def test_sampled_cells_report_the_dearest_site_and_prv_beside_it() -> None:
    study = small_study(training=SAMPLED)
    result = simulate(study, small_table(), epsilons=[2.0])
    privacy = result.cells[0].privacy
    assert privacy.accountant == rdp.ACCOUNTANT
    assert privacy.epsilon == pytest.approx(2.0, rel=0.01)
    assert privacy.epsilon_prv is None or privacy.epsilon_prv <= 2.0


def moment(number: int) -> Moment:
    """The release of a round; what noise is derived from is of no interest here."""
    return Moment(ReleaseId("run", number, "test"), b"")


@pytest.mark.parametrize("training", [SAMPLED, SAMPLED | {"batch": 1000}])
def test_releases_of_models_lie_on_the_public_grid(
    training: dict[str, Any], tmp_path: Path
) -> None:
    """Of sampled steps and, with a batch of everybody, of steps on the whole cohort."""
    made = build_federation(small_study(training=training), small_table(), seed=0)
    setting, grid = Setting("local", 1.0, "fedavg"), 2.0**CHANGE_EXPONENT
    hospitals = Hospitals(made, setting, "run", Trainer(), tmp_path)
    hospitals.found()
    request = TrainRequest(made.study.hash(), "run", 1, "update", start_weights(made))
    reply = decode_reply(hospitals.site(0).answer(encode_request(request), Memory()))
    hospitals.close()
    assert isinstance(reply, PrivateUpdate)
    assert np.array_equal(reply.vector / grid, np.round(reply.vector / grid))
    assert np.abs(reply.vector).max() > 1000 * grid


PERSONAL: dict[str, Any] = {"rounds": 60, "personalisation": "mr-mtl", "pull": 0.05}


def hospitals_that_differ() -> pd.DataFrame:
    """Hospitals that dose 20 mg apart: a mean model cannot fit all of them."""
    table = small_table(600, 3)
    shift = table.hospital.map({"site 0": -20.0, "site 1": 0.0, "site 2": 20.0})
    return table.assign(dose=(table.dose + shift).clip(1, 99))


def test_personal_models_beat_the_common_one_where_hospitals_differ() -> None:
    """No noise, so no chance."""
    study = small_study("continuous", training=PERSONAL)
    (cell,) = simulate(study, hospitals_that_differ(), modes=["none"]).cells
    assert cell.broadcast is not None
    assert (cell.test.overall["mae"] or 99) < 0.8 * (cell.broadcast.overall["mae"] or 0)
    for site in ("site 0", "site 2"):
        own, common = (scores.by_site[site]["mae"] for scores in (cell.test, cell.broadcast))
        assert (own or 99) < 0.7 * (common or 0)


def test_personal_models_differ_as_the_hospitals_do() -> None:
    """Sixty rounds without noise: the doses that the models give lie in the hospitals' order."""
    made = build_federation(
        small_study("continuous", training=PERSONAL), hospitals_that_differ(), seed=0
    )
    start = State.start(start_weights(made))
    models = SiteModels(start.weights)
    setting = Setting("none", None, "fedavg")
    common = train_federated(made, setting, run_id="run", start=start, observers=[models]).weights
    weights = {**models.models, "common": common}
    doses = {
        name: predict(made.study, made.encoding, model, made.x_test).value.mean()
        for name, model in weights.items()
    }
    assert doses["site 0"] + 10 < doses["common"] < doses["site 2"] - 10
    assert doses["site 1"] == pytest.approx(doses["common"], abs=5)


def test_a_personal_model_is_a_function_of_what_the_site_released() -> None:
    """Under noise: broadcast plus release, and the next round starts there."""
    training: dict[str, Any] = {"rounds": 3, "personalisation": "mr-mtl"}
    made = build_federation(small_study(training=training), small_table(), seed=0)
    start = State.start(start_weights(made))
    models, record = SiteModels(start.weights), Record()
    setting = Setting("local", 1.0, "fedavg")
    train_federated(made, setting, run_id="run", start=start, observers=[record, models])
    last, before = record.rounds[-1], record.rounds[-2].state.weights
    for site in made.sites:
        np.testing.assert_array_equal(models.models[site.name], before + last.updates[site.name])
    kept = list(models.models.values())
    assert not any(np.array_equal(kept[0], other) for other in kept[1:])


def test_a_personal_model_goes_on_from_itself_pulled_to_the_broadcast_one() -> None:
    study = small_study(training={"rounds": 3, "personalisation": "mr-mtl", "pull": 0.2})
    made = build_federation(study, small_table(), seed=0)
    site = made.sites[0]
    mechanism = Trainer().plain(study, made.encoding, site.train, site.declared, (0,))
    start = start_weights(made)
    own = start + mechanism.compute(start, start, moment(1))
    broadcast = start + 0.3
    gradient = mechanism.step.total(own, moment(2)) / site.declared + 0.2 * (own - broadcast)
    found = broadcast + mechanism.compute(broadcast, own, moment(2))
    np.testing.assert_allclose(found, own - study.local_learning_rate * gradient, atol=1e-12)


@dataclass
class Record:
    """An observer that keeps every round."""

    rounds: list[Round] = field(default_factory=list)

    def after_round(self, finished: Round) -> None:
        self.rounds.append(finished)


def test_a_hospital_that_drops_out_leaves_no_trace_in_that_round() -> None:
    """The mean gradient is the answering hospitals' sum over their declared patients alone."""
    study = small_study(sites=6)
    table = small_table(400, 6).query("hospital != 'site 5' or index < 100")  # of unequal size
    made = build_federation(study, table, seed=0)
    setting = Setting("none", None, "descent", drop=0.4)
    state, record = State.start(start_weights(made)), Record()
    train_federated(made, setting, run_id="run", start=state, observers=[record])
    answered = [set(finished.updates) for finished in record.rounds]
    assert any(len(sites) < 6 for sites in answered)
    assert set.union(*answered) == set(made.declared)
    assert len(set(made.declared.values())) > 1
    combiner = make_combiner(study, state.weights, 0.0, made.declared)
    assert isinstance(combiner, Descent)
    mechanism = partial(Trainer().plain, study, made.encoding)
    for finished in record.rounds:
        present = [site for site in made.sites if site.name in finished.updates]
        sums = [
            mechanism(site.train, site.declared, (0,)).compute(
                state.weights, state.weights, moment(1)
            )
            for site in present
        ]
        mean = np.sum(sums, axis=0) / sum(site.declared for site in present)
        state = combiner.optimizers[0].step(state, mean)
        np.testing.assert_allclose(finished.state.weights, state.weights, rtol=1e-9)


def test_dropout_is_a_setting_of_its_own() -> None:
    study, table = small_study(sites=8), small_table(400, 8)
    whole, dropped = simulate(study, table, modes=["none"], drops=[0.0, 0.4]).cells
    assert (whole.drop, dropped.drop) == (0.0, 0.4)
    assert whole.test != dropped.test


@pytest.mark.parametrize("patients", [43, 37])
def test_a_sampled_step_divides_by_the_rate_times_the_declared_patients(patients: int) -> None:
    """What the sample really holds, and how many patients there really are, never divides."""
    study, seed = small_study(training=SAMPLED), (7,)
    encoding = Encoding(study)
    cohort = encoding.encode(small_table(patients, 1), "site 0")
    mechanism = Trainer().plain(study, encoding, cohort, 40, seed)
    engine, blocks = mechanism.step.engine, mechanism.step.patients.blocks
    weights = own = initial_weights(study, encoding, seed=0)
    for step in range(3):  # 16 of 40 expected: three steps an epoch
        rows = SeededSampler(seed).rows(patients, 16 / 40, (1, step))
        assert len(rows) not in {0, 16}
        total = engine.gradient_sum(own, blocks(rows))
        own = own - study.local_learning_rate * total / (16 / 40 * 40)
    change = mechanism.compute(weights, weights, moment(1))
    np.testing.assert_allclose(change, own - weights, atol=1e-12)
    assert np.abs(change).max() > 1e-3


def test_patients_are_spread_over_made_up_hospitals() -> None:
    result = simulate(small_study(), small_table(400), modes=["none"], sites=[2, 16])
    assert [cell.sites for cell in result.cells] == [2, 16]
    assert [len(cell.test.by_site) for cell in result.cells] == [2, 16]
