r"""How far the noise alone moves a linear model's weights: a bound from public numbers.

Descent is linear in the noise as long as the loss is straight beside it: with curvature
:math:`\lambda` in some direction, a unit of noise in the mean gradient of round t moves the
released average of the iterates by :math:`h_t(\lambda)`, and independent noise of standard
deviation :math:`\sigma` in every round moves it by :math:`\sigma\sqrt{\sum_t h_t(\lambda)^2}`. What
the curvature is depends on patients, and is not known. It is never negative (losses are convex, and
so is a loss whose gradient is clipped), so that the largest value over all curvatures from zero on
bounds the deviation in every direction. To first order in the noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from polyclinic_common.releases.kinds import GRADIENT, UPDATE
from polyclinic_common.releases.schedule import Schedule, declared_for
from polyclinic_common.study.manifest import Study
from polyclinic_server.rounds.combiner import Descent, make_combiner
from polyclinic_server.rounds.optimizer import Optimizer, largest_ridge
from polyclinic_server.rounds.plan import suggested_ridge
from polyclinic_server.rounds.state import State

CURVATURES = 64


def weight_deviation(
    study: Study, declared: Mapping[str, int], chosen: int | None = None
) -> float | None:
    """Return the standard deviation that noise alone gives to every trained weight, at most.

    Before calibration: that multiplies weights by its slope.

    Parameters
    ----------
    declared : mapping
        Declared patients that count as trained on, of the hospitals in every sum.
    chosen : int or None
        The setting of a menu that was kept, counted from 0.

    Returns
    -------
    float or None
        None where no such bound is known: hidden layers, strategies other than descent, a start
        from noisy statistics, models of single hospitals, and mode none.
    """
    training = study.training
    plain = training.start == "base-rates" and training.personalisation == "none"
    if study.privacy.mode == "none" or study.model.hidden or not plain:
        return None
    ridge = suggested_ridge(study, study.privacy.epsilon, declared)
    combiner = make_combiner(study, np.zeros(1), ridge, declared)
    if not isinstance(combiner, Descent) or training.schedule != "full":
        return None
    noise = _deviation_of_total(study, declared) / sum(declared.values())
    return noise * largest_gain(combiner.optimizers[chosen or 0])


def largest_gain(optimizer: Optimizer) -> float:
    """Return the largest deviation of the released average for noise of deviation 1 a round."""
    limit = largest_ridge(optimizer.learning_rate, optimizer.momentum)
    return max(gain(optimizer, c) for c in np.linspace(0.0, limit, CURVATURES))


def gain(optimizer: Optimizer, curvature: float) -> float:
    """Return the same for one curvature: entry t of the model feels the noise of round t alone."""
    rounds = optimizer.rounds
    quiet = replace(optimizer, start=np.zeros(rounds))
    state = State.start(np.zeros(rounds))
    for number in range(rounds):
        impulse = np.eye(rounds)[number]
        state = quiet.step(state, curvature * state.weights + impulse)
    return float(np.linalg.norm(state.average))


def _deviation_of_total(study: Study, declared: Mapping[str, int]) -> float:
    """Return the standard deviation of the noise in the sum of all hospitals' gradients."""
    kind = GRADIENT if study.privacy.mode == "secure-sum" else UPDATE
    shares = [
        Schedule.of(study, declared_for(study, declared, name)).plan(kind).deviation
        for name in declared
    ]
    return math.sqrt(sum(share**2 for share in shares))
