"""Training on one cohort: what a federation is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polyclinic_client.compute.integers import Moment
from polyclinic_client.compute.local_releases import Mechanism, SumRelease
from polyclinic_client.compute.patients import Patients
from polyclinic_client.compute.sums import AtHand, noisy_sum
from polyclinic_client.compute.training import local_mechanism
from polyclinic_common.data.encoding import Cohort
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Vector
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import CALIBRATION
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.study import Study
from polyclinic_server.rounds.calibration import Calibrator
from polyclinic_server.rounds.combiner import Combiner, make_combiner
from polyclinic_server.rounds.plan import ridge_against
from polyclinic_server.rounds.state import State
from polyclinic_simulations.compute.plain import PlainMechanism
from polyclinic_simulations.compute.trainer import Trainer, unclipped
from polyclinic_simulations.engines import inline
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights

CONVERGED_RIDGE = 1e-4
ALONE = "alone"
SERVER_OPTIMIZERS = frozenset({"fedadam", "fedyogi", "fedadagrad"})


def train_alone(
    federation: Federation,
    cohort: Cohort,
    declared: int,
    setting: Setting,
    trainer: Trainer | None = None,
) -> Vector:
    """Train on one cohort with the same schedule, as a hospital that stays out would.

    It trains once, also where the study has a menu: with the study's own setting.
    """
    federation = federation.without_menu
    study, state = federation.study, State.start(start_weights(federation))
    mechanism = _mechanism(federation, cohort, declared, setting, trainer or Trainer())
    combiner = _combiner_alone(study, declared, setting, state)
    own = state.weights
    while state.round_number < study.training.rounds:
        release = ReleaseId(ALONE, state.round_number + 1, ALONE)
        moment = Moment(release, broadcast_hash(state.weights))
        if isinstance(mechanism, PlainMechanism):
            change = mechanism.compute(state.weights, own, moment)
        else:
            drawn = mechanism.draw(state.weights, own, moment)
            change = np.asarray(drawn * 2.0**mechanism.grid_exponent, dtype=np.float64)
        personal = study.training.personalisation == "mr-mtl"
        broadcast = state.weights
        state = combiner.step(state, {ALONE: change})
        own = broadcast + change if personal else state.weights
    if study.training.calibration is not None:
        state = _calibrated(federation, cohort, declared, mechanism, trainer or Trainer(), state)
    return state.average


def _calibrated(
    federation: Federation,
    cohort: Cohort,
    declared: int,
    mechanism: Mechanism | PlainMechanism,
    trainer: Trainer,
    state: State,
) -> State:
    """Return the state after calibration on the one cohort."""
    if isinstance(mechanism, PlainMechanism):
        calibrator = Calibrator(federation.encoding, 0.0)
        for number in calibrator.rounds:
            total = mechanism.calibration(state.average)
            state = calibrator.advance(state, number, total, hospitals=1)
        return state
    plan = Schedule.of(_on_its_own(federation.study), declared).plan(CALIBRATION)
    at_hand = AtHand(
        federation.encoding, trainer.private(federation.study, federation.encoding), cohort, cohort
    )
    release = SumRelease(noisy_sum(CALIBRATION, at_hand, plan, trainer.noise(b"")), plan)
    calibrator = Calibrator(federation.encoding, release.plan.deviation)
    for number in calibrator.rounds:
        moment = Moment(ReleaseId(ALONE, number, CALIBRATION), broadcast_hash(state.average))
        drawn = release.draw(state.average, state.average, moment)
        total = np.ldexp(drawn, release.grid_exponent)
        state = calibrator.advance(state, number, total, hospitals=1)
    return state


def _on_its_own(study: Study) -> Study:
    """Return the study as a hospital alone releases it: with the full noise, in mode local."""
    privacy = study.privacy.model_copy(update={"mode": "local"})
    return study.model_copy(update={"privacy": privacy})


def _mechanism(
    federation: Federation, cohort: Cohort, declared: int, setting: Setting, trainer: Trainer
) -> Mechanism | PlainMechanism:
    study, encoding = federation.study, federation.encoding
    if setting.epsilon is None:
        seed = (federation.seed, declared)
        return trainer.plain(study, encoding, cohort, declared, seed)
    gradients = trainer.private(study, encoding)
    return local_mechanism(study, gradients, cohort, declared, trainer.noise(b""))


@dataclass(frozen=True)
class _OwnSteps:
    """What strategies without a server optimizer are for one site: its model is the next one."""

    rounds: int
    average_from: float

    def step(self, state: State, updates: Mapping[str, Vector]) -> State:
        """Take the site's change."""
        return state.advance(state.weights + updates[ALONE], self.rounds, self.average_from)


def _combiner_alone(study: Study, declared: int, setting: Setting, start: State) -> Combiner:
    if study.strategy in SERVER_OPTIMIZERS:
        inline.be_server()
    elif study.strategy != "descent":
        return _OwnSteps(study.training.rounds, study.training.average_from)
    ridge = ridge_against(study, setting.epsilon, declared, 1)
    return make_combiner(study, start.weights, ridge, {ALONE: declared})


def train_converged(federation: Federation, cohort: Cohort) -> Vector:
    """Return the minimiser of the mean loss by L-BFGS, with a negligible ridge."""
    from scipy.optimize import minimize  # noqa: PLC0415  (heavy)

    study, start = federation.study, start_weights(federation)
    engine = unclipped(study, build_network(study, federation.encoding))
    blocks, size = Patients(cohort, block=None).blocks(), max(1, len(cohort))

    def objective(weights: Vector) -> tuple[float, Vector]:
        pull = weights - start
        loss, gradient = engine.loss_and_gradient(weights, blocks)
        value = loss / size + 0.5 * CONVERGED_RIDGE * float(pull @ pull)
        return value, gradient / size + CONVERGED_RIDGE * pull

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x, dtype=np.float64)
