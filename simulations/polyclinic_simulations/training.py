"""Training inside a simulation: the federation itself, and what it is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Context
from scipy.optimize import minimize

from polyclinic_client.app import make_client_app
from polyclinic_client.gradients import Unclipped, blocks
from polyclinic_client.site import Mechanism, Site, local_mechanism, plain_mechanism
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.losses import LOSSES
from polyclinic_common.models.network import Vector, build_network, initial_weights
from polyclinic_common.privacy.noise import NoiseSource, SystemNoise
from polyclinic_common.study.manifest import Study
from polyclinic_server.coordinator import RunPlan, make_server_app
from polyclinic_server.observers import Observer
from polyclinic_server.optimizer import State, make_optimizer, noise_ridge
from polyclinic_simulations.engines.inline import FIRST_SITE_NODE, run_inline
from polyclinic_simulations.federation import Federation
from polyclinic_simulations.setting import Setting

NoiseFactory = Callable[[], NoiseSource]
CONVERGED_RIDGE = 1e-4


def mechanism_of(
    study: Study, encoding: Encoding, setting: Setting, noise: NoiseFactory
) -> Mechanism:
    """Return what a site releases a round."""
    if setting.epsilon is None:
        return plain_mechanism(study, encoding)
    return local_mechanism(study, encoding, setting.epsilon, noise())


@dataclass(frozen=True)
class Trained:
    """A federated model and the seconds its rounds took."""

    weights: Vector
    seconds: float


def train_federated(
    federation: Federation,
    setting: Setting,
    *,
    run_id: str,
    start: State,
    observers: Sequence[Observer] = (),
    noise: NoiseFactory = SystemNoise,
) -> Trained:
    """Train over the inline engine: the ServerApp and ClientApp of a real consortium."""
    study, sites = federation.study, federation.training_sites
    nodes = {site.name: FIRST_SITE_NODE + index for index, site in enumerate(sites)}
    running = {
        nodes[site.name]: Site(
            study,
            federation.encoding,
            site.train,
            mechanism_of(study, federation.encoding, setting, noise),
            run_id=run_id,
            rounds_done=start.round_number,
        )
        for site in sites
    }
    plan = _plan(federation, setting, run_id, nodes)
    finished: list[State] = []
    began = time.perf_counter()
    run_inline(
        make_server_app(lambda _: (plan, start), observers, finished.append),
        make_client_app(lambda context: _site_in(running, context)),
        len(sites),
    )
    return Trained(finished[0].average, time.perf_counter() - began)


def _site_in(running: dict[int, Site], context: Context) -> Site:
    return running[context.node_id]


def _plan(federation: Federation, setting: Setting, run_id: str, nodes: dict[str, int]) -> RunPlan:
    study, declared = federation.study, federation.declared
    ridge = noise_ridge(setting.deviation(study), len(nodes), sum(declared.values()))
    return RunPlan(
        study_hash=study.hash(),
        run_id=run_id,
        node_of=nodes,
        declared=declared,
        optimizer=make_optimizer(study, start_weights(federation), ridge),
        fewest=min(study.m, len(nodes)),
    )


def start_weights(federation: Federation) -> Vector:
    """Return the public starting point under this federation's seed."""
    return initial_weights(federation.study, federation.encoding, federation.seed)


def train_alone(
    federation: Federation,
    cohort: Cohort,
    declared: int,
    setting: Setting,
    noise: NoiseFactory = SystemNoise,
) -> Vector:
    """Train on one cohort with the same schedule, as a hospital that stays out would."""
    study, start = federation.study, start_weights(federation)
    mechanism = mechanism_of(study, federation.encoding, setting, noise)
    optimizer = make_optimizer(study, start, noise_ridge(setting.deviation(study), 1, declared))
    state, patients = State.start(start), blocks(cohort)
    while state.round_number < optimizer.rounds:
        state = optimizer.step(state, mechanism.release(state.weights, patients) / declared)
    return state.average


def train_converged(federation: Federation, cohort: Cohort) -> Vector:
    """Return the minimiser of the mean loss by L-BFGS, with a negligible ridge."""
    study, start = federation.study, start_weights(federation)
    network = build_network(study, federation.encoding)
    engine, patients = Unclipped(network, LOSSES[study.loss]), blocks(cohort)

    def objective(weights: Vector) -> tuple[float, Vector]:
        pull = weights - start
        loss, gradient = engine.loss_and_gradient(weights, patients)
        size = max(1, len(cohort))
        value = loss / size + 0.5 * CONVERGED_RIDGE * float(pull @ pull)
        return value, gradient / size + CONVERGED_RIDGE * pull

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x, dtype=np.float64)
