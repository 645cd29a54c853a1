"""The model that a run releases, without the run's messages, masks and ledgers.

Masks cancel, so the server of a secure sum sees exactly the sum of every hospital's noisy integers.
Adding these up here gives the same model, and many draws of it, in a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polyclinic_client.compute.integers import Moment, NoisyIntegers
from polyclinic_client.compute.sums import AtHand, secure_sums
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT
from polyclinic_common.releases.schedule import Schedule
from polyclinic_server.rounds.combiner import Descent
from polyclinic_server.rounds.state import State
from polyclinic_simulations.baselines.alone import train_alone
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import run_plan, start_weights

SUMMED = "summed"


def released_model(
    federation: Federation, setting: Setting, trainer: Trainer | None = None
) -> Vector:
    """Return the weights that mode secure-sum with all hospitals present, or none, releases.

    Of a study with a menu, one training with the study's own setting: less noise than there is.
    """
    trainer, federation = trainer or Trainer(), federation.without_menu
    if setting.epsilon is None:
        declared = sum(federation.declared.values())
        return train_alone(federation, federation.pooled, declared, setting, trainer)
    study = federation.study
    gradients = trainer.private(study, federation.encoding)
    schedule = Schedule.of(study, max(federation.declared.values()), gradients.path)
    plans = schedule.secure_sums
    sources = [
        secure_sums(
            schedule,
            AtHand(federation.encoding, gradients, site.train, site.held_out),
            trainer.noise(b""),
        )
        for site in federation.training_sites
    ]
    plan = run_plan(federation, setting, SUMMED, {}, 0.0, plans)
    if not isinstance(plan.combiner, Descent):
        raise TypeError(type(plan.combiner).__name__)
    state = State.start(start_weights(federation))
    while state.round_number < study.training.rounds:
        gradient = _sum(sources, plans[GRADIENT], GRADIENT, state.round_number + 1, state.weights)
        state = plan.combiner.descend(state, gradient, list(federation.declared))
    if plan.calibrator is None:
        return state.average
    for number in plan.calibrator.rounds:
        total = _sum(sources, plans[CALIBRATION], CALIBRATION, number, state.average)
        state = plan.calibrator.advance(state, number, total, len(sources))
    return state.average


def _sum(
    sources: Sequence[Mapping[str, NoisyIntegers]],
    plan: SumPlan,
    kind: str,
    number: int,
    weights: Vector,
) -> Vector:
    """Return the noisy sum of all hospitals in a round, in the unit of the clip."""
    moment = Moment(ReleaseId(SUMMED, number, kind), broadcast_hash(weights))
    total = np.sum([source[kind].draw(weights, moment) for source in sources], axis=0)
    return np.asarray(total * plan.grid, dtype=np.float64)
