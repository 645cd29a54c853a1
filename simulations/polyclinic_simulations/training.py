"""Training inside a simulation: the federation itself, and what it is compared with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid
from numpy.typing import NDArray
from scipy.optimize import minimize

from polyclinic_client.app import make_client_app
from polyclinic_client.gradients import GradientEngine, Patients, Unclipped, clipped_engine
from polyclinic_client.mechanisms import (
    Mechanism,
    Memory,
    ModelRelease,
    NoisySums,
    SumRelease,
)
from polyclinic_client.sampling import Sampler, SystemSampler
from polyclinic_client.site import Site
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.losses import LOSSES
from polyclinic_common.models.network import Vector, build_network, initial_weights
from polyclinic_common.privacy.noise import NoiseSource, SystemNoise
from polyclinic_common.privacy.plan import noise_plan
from polyclinic_common.study import Study
from polyclinic_server.combiner import Combiner, make_combiner
from polyclinic_server.coordinator import RunPlan, make_server_app
from polyclinic_server.observers import Observer
from polyclinic_server.optimizer import State, noise_ridge
from polyclinic_simulations.engines import ENGINES
from polyclinic_simulations.fast_gradients import ClosedForm
from polyclinic_simulations.federation import Federation, uniform
from polyclinic_simulations.setting import Setting

NoiseFactory = Callable[[], NoiseSource]
CONVERGED_RIDGE = 1e-4
ALONE = "alone"
FULL_BLOCK = 256


@dataclass(frozen=True)
class SeededSampler:
    """Samples from a seed: for mode `none`, so that a run without privacy can be repeated."""

    seed: tuple[int, ...]

    def rows(self, patients: int, rate: float, moment: tuple[int, int]) -> NDArray[np.int64]:
        """Return the chosen rows."""
        generator = np.random.default_rng((*self.seed, *moment))
        return np.flatnonzero(generator.random(patients) < rate)


@dataclass(frozen=True)
class Trainer:
    """How sites compute: their gradients, and where their noise comes from."""

    gradients: str = "fast"
    noise: NoiseFactory = SystemNoise

    def engine(self, study: Study, encoding: Encoding, *, private: bool) -> GradientEngine:
        """Return the engine that gives (clipped) gradient sums."""
        if self.gradients == "fast":
            shape = encoding.width, study.model.hidden, encoding.outputs
            return ClosedForm(*shape, loss=study.loss, clip=study.clip if private else None)
        network = build_network(study, encoding)
        if private:
            return clipped_engine(network, LOSSES[study.loss], study.clip)
        return Unclipped(network, LOSSES[study.loss])

    def mechanism(
        self,
        study: Study,
        encoding: Encoding,
        cohort: Cohort,
        declared: int,
        setting: Setting,
        seed: tuple[int, ...],
    ) -> Mechanism:
        """Return what one site releases a round."""
        plan, private = noise_plan(study, declared, setting.epsilon), setting.epsilon is not None
        sampled = plan.sampling_rate < 1.0
        block = None if self.gradients == "fast" else _block(study, sampled=sampled)
        sums = NoisySums(
            self.engine(study, encoding, private=private),
            Patients(cohort, block),
            self.noise(),
            plan.multiplier * study.clip,
        )
        if study.strategy == "descent":
            return SumRelease(sums)
        sampler: Sampler = SystemSampler() if private else SeededSampler(seed)
        personal = study.training.personalisation == "mr-mtl"
        return ModelRelease(
            sums,
            sampler if sampled else None,
            plan.sampling_rate,
            plan.steps,
            divisor=plan.sampling_rate * declared,
            learning_rate=study.local_learning_rate,
            pull=study.training.pull if personal or study.strategy == "fedprox" else 0.0,
            personal=personal,
        )


def _block(study: Study, *, sampled: bool) -> int:
    """Return the size of a block: for samples, one that nearly always holds the whole sample."""
    batch = study.training.batch
    return math.ceil(batch + 2.0 * math.sqrt(batch)) if sampled else FULL_BLOCK


@dataclass(frozen=True)
class Trained:
    """A federated model and the seconds its rounds took."""

    weights: Vector
    seconds: float


@dataclass(frozen=True)
class SiteFactory:
    """Makes a site where its first message arrives, in whatever process that is."""

    federation: Federation
    setting: Setting
    run_id: str
    trainer: Trainer
    made: dict[int, Site] = field(default_factory=dict)

    def __call__(self, context: Context) -> Site:
        """Return the site of a Flower context."""
        index = int(context.node_config["partition-id"])
        if index not in self.made:
            self.made[index] = self._make(index)
        return self.made[index]

    def _make(self, index: int) -> Site:
        federation = self.federation
        study, site = federation.study, federation.training_sites[index]
        mechanism = self.trainer.mechanism(
            study,
            federation.encoding,
            site.train,
            site.declared,
            self.setting,
            (federation.seed, index),
        )
        return Site(study, mechanism, self.run_id)


def train_federated(
    federation: Federation,
    setting: Setting,
    *,
    run_id: str,
    start: State,
    observers: Sequence[Observer] = (),
    trainer: Trainer | None = None,
    engine: str = "inline",
) -> Trained:
    """Train with the ServerApp and ClientApp of a real consortium, over one of the engines."""
    names = [site.name for site in federation.training_sites]
    finished: list[State] = []
    chosen = ENGINES[engine]

    def plan_of(grid: Grid) -> tuple[RunPlan, State]:
        nodes = dict(zip(names, chosen.nodes_in_order(grid), strict=True))
        return run_plan(federation, setting, run_id, nodes, chosen.timeout_s), start

    sites = SiteFactory(federation, setting, run_id, trainer or Trainer())
    client_app = make_client_app(sites)
    began = time.perf_counter()
    chosen.run(
        make_server_app(plan_of, observers, finished.append),
        client_app,
        len(names),
        lambda partition, group: _lost(setting.drop, federation.seed, partition, group),
    )
    return Trained(finished[0].average, time.perf_counter() - began)


def _lost(drop: float, seed: int, partition: int, group: str) -> bool:
    """Say whether a hospital misses a round, by a hash of seed, hospital and round."""
    return drop > 0 and uniform(f"drop|{seed}|{partition}|{group}") < drop


def run_plan(
    federation: Federation,
    setting: Setting,
    run_id: str,
    nodes: dict[str, int],
    timeout_s: float,
) -> RunPlan:
    """Return the coordinator's plan; every release is private on its own, so one is enough."""
    study, ridge = federation.study, _ridge(federation, setting)
    start = start_weights(federation)
    return RunPlan(
        study_hash=study.hash(),
        run_id=run_id,
        node_of=nodes,
        rounds=study.training.rounds,
        combiner=make_combiner(study, start, ridge, federation.declared),
        fewest=1,
        timeout_s=timeout_s,
    )


def _ridge(federation: Federation, setting: Setting) -> float:
    study, total = federation.study, sum(federation.declared.values())
    plan = noise_plan(study, total, setting.epsilon)
    return noise_ridge(plan.multiplier * study.clip, len(federation.declared), total)


def start_weights(federation: Federation) -> Vector:
    """Return the warm start, or the public starting point under this federation's seed."""
    if federation.start is not None:
        return federation.start
    return initial_weights(federation.study, federation.encoding, federation.seed)


def train_alone(
    federation: Federation,
    cohort: Cohort,
    declared: int,
    setting: Setting,
    trainer: Trainer | None = None,
) -> Vector:
    """Train on one cohort with the same schedule, as a hospital that stays out would."""
    study, state = federation.study, State.start(start_weights(federation))
    seed = (federation.seed, declared)
    mechanism = (trainer or Trainer()).mechanism(
        study, federation.encoding, cohort, declared, setting, seed
    )
    combiner = _combiner_alone(study, declared, setting, state)
    memory = Memory()
    while state.round_number < study.training.rounds:
        memory.last_round = state.round_number + 1
        state = combiner.step(state, {ALONE: mechanism.release(state.weights, memory)})
    return state.average


@dataclass(frozen=True)
class _OwnSteps:
    """What every strategy of Flower is for a single site: its own model is the next one."""

    rounds: int
    average_from: float

    def step(self, state: State, updates: Mapping[str, Vector]) -> State:
        """Take the site's change."""
        return state.advance(state.weights + updates[ALONE], self.rounds, self.average_from)


def _combiner_alone(study: Study, declared: int, setting: Setting, start: State) -> Combiner:
    if study.strategy != "descent":
        return _OwnSteps(study.training.rounds, study.training.average_from)
    plan = noise_plan(study, declared, setting.epsilon)
    ridge = noise_ridge(plan.multiplier * study.clip, 1, declared)
    return make_combiner(study, start.weights, ridge, {ALONE: declared})


def train_converged(federation: Federation, cohort: Cohort) -> Vector:
    """Return the minimiser of the mean loss by L-BFGS, with a negligible ridge."""
    study, start = federation.study, start_weights(federation)
    engine = Unclipped(build_network(study, federation.encoding), LOSSES[study.loss])
    blocks, size = Patients(cohort, block=None).blocks(), max(1, len(cohort))

    def objective(weights: Vector) -> tuple[float, Vector]:
        pull = weights - start
        loss, gradient = engine.loss_and_gradient(weights, blocks)
        value = loss / size + 0.5 * CONVERGED_RIDGE * float(pull @ pull)
        return value, gradient / size + CONVERGED_RIDGE * pull

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x, dtype=np.float64)
