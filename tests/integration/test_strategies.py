"""Every strategy is Flower's own, weighted by declared sizes, and costs what is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedYogi

from polyclinic_client.mechanisms import GRID
from polyclinic_common.errors import StudyError
from polyclinic_common.models.network import Vector
from polyclinic_common.privacy import rdp
from polyclinic_common.privacy.plan import noise_plan
from polyclinic_server.combiner import FlowerStrategy, make_combiner, make_strategy
from polyclinic_server.observers import SiteModels
from polyclinic_server.optimizer import State
from polyclinic_simulations import simulate
from polyclinic_simulations.engines.inline import SERVER_NODE
from polyclinic_simulations.federation import build_federation
from polyclinic_simulations.setting import Setting
from polyclinic_simulations.training import Trainer, start_weights, train_federated
from tests.conftest import small_study, small_table

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


class NoNoise:
    """A zero-noise source, injected through the constructor."""

    def gaussian(self, size: int, deviation: float) -> Vector:
        return np.zeros(size)


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


def test_releases_of_models_lie_on_the_public_grid() -> None:
    made = build_federation(small_study(training=SAMPLED), small_table(), seed=0)
    setting = Setting("local", 1.0, "fedavg")
    site = made.sites[0]
    mechanism = Trainer().mechanism(
        made.study, made.encoding, site.train, site.declared, setting, (0,)
    )
    from polyclinic_client.mechanisms import Memory

    change = mechanism.release(start_weights(made), Memory()) / GRID
    assert np.array_equal(change, np.round(change))


def test_personal_models_beat_the_common_one_where_hospitals_differ() -> None:
    """Hospitals that dose 20 mg apart: a mean model cannot fit both; no noise, so no chance."""
    table = small_table(600, 3)
    shift = table.hospital.map({"site 0": -20.0, "site 1": 0.0, "site 2": 20.0})
    table = table.assign(dose=(table.dose + shift).clip(1, 99))
    training = {"rounds": 60, "personalisation": "mr-mtl", "pull": 0.05}
    study = small_study("continuous", training=training)
    (cell,) = simulate(study, table, modes=["none"]).cells
    assert cell.broadcast is not None
    assert (cell.test.overall["mae"] or 99) < 0.8 * (cell.broadcast.overall["mae"] or 0)


def test_a_personal_model_is_a_function_of_what_the_site_released() -> None:
    study = small_study(training={"rounds": 4, "personalisation": "mr-mtl"})
    made = build_federation(study, small_table(), seed=0)
    start = State.start(start_weights(made))
    models = SiteModels(start.weights)
    setting = Setting("local", 1.0, "fedavg")
    train_federated(made, setting, run_id="run", start=start, observers=[models])
    assert set(models.models) == {site.name for site in made.sites}


def test_dropout_loses_messages_and_the_run_goes_on() -> None:
    study, table = small_study(sites=8), small_table(400, 8)
    result = simulate(study, table, modes=["none"], drops=[0.0, 0.2])
    whole, dropped = (cell.test.overall["accuracy"] for cell in result.cells)
    assert [cell.drop for cell in result.cells] == [0.0, 0.2]
    assert dropped is not None
    assert whole is not None


def test_patients_are_spread_over_made_up_hospitals() -> None:
    result = simulate(small_study(), small_table(400), modes=["none"], sites=[2, 16])
    assert [cell.sites for cell in result.cells] == [2, 16]
    assert [len(cell.test.by_site) for cell in result.cells] == [2, 16]
