"""From noisy gradient sums to a model: momentum, ridge and iterate averaging.

All of it is post-processing of what the sites released, and costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from polyclinic_common.models.score_head import Vector
from polyclinic_server.rounds.calibration import Calibrated, Calibrator
from polyclinic_server.rounds.metric_sums import MetricSum
from polyclinic_server.rounds.votes import Verdict


@dataclass(frozen=True)
class State:
    """Where a run stands after `round_number` rounds.

    `weights` and `average` have shape (d,); `velocity` is what the combiner remembers, `carried`
    what the secure sum does, `released` are the metric sums so far, `verdict` the hospitals' at
    the end, where they vote. With a menu, `candidates` are the models of the settings that were
    trained, and `chosen` is the number of the one that was kept. `calibrated` is what is known of
    level and slope, once calibration has begun; then `average` is the model they are applied to.
    """

    round_number: int
    weights: Vector
    velocity: Vector
    average: Vector
    carried: bytes = b""
    released: tuple[MetricSum, ...] = ()
    verdict: Verdict | None = None
    candidates: tuple[Vector, ...] = ()
    chosen: int | None = None
    calibrated: Calibrated | None = None

    @staticmethod
    def start(weights: Vector) -> State:
        """Return the state before the first round."""
        return State(0, weights, np.zeros_like(weights), weights)

    def advance(self, weights: Vector, rounds: int, average_from: float) -> State:
        """Return the state one round later; `average` is the mean of the late iterates.

        Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992). `rounds`
        are those of one setting: with a menu the next one averages anew.
        """
        number = self.round_number + 1
        averaged = self.round_number % rounds + 1 - min(int(average_from * rounds), rounds - 1)
        if averaged <= 1:
            return replace(self, round_number=number, weights=weights, average=weights)
        average = self.average + (weights - self.average) / averaged
        return replace(self, round_number=number, weights=weights, average=average)

    def calibrate(
        self, calibrator: Calibrator, number: int, total: Vector, hospitals: int
    ) -> State:
        """Return the state after a round of calibration at `average`; see `Calibrator.step`."""
        known = self.calibrated or calibrator.begun(self.average)
        known = calibrator.step(known, total, hospitals)
        return replace(self, round_number=number, average=calibrator.model(known), calibrated=known)


@dataclass(frozen=True)
class Optimizer:
    """Gradient descent with momentum taken as an average, and averaging of late iterates.

    One round: ``v <- beta v + (1 - beta) g``, ``w <- w - eta v`` with ``g`` the mean gradient plus
    the pull ``ridge (w - start)``. The model is the mean of the iterates after the share
    `average_from` of the rounds.
    """

    learning_rate: float
    momentum: float
    ridge: float
    start: Vector
    rounds: int
    average_from: float

    def step(self, state: State, mean_gradient: Vector) -> State:
        """Return the state after one more round."""
        gradient = mean_gradient + self.ridge * (state.weights - self.start)
        velocity = self.momentum * state.velocity + (1.0 - self.momentum) * gradient
        weights = state.weights - self.learning_rate * velocity
        following = state.advance(weights, self.rounds, self.average_from)
        return replace(following, velocity=velocity)


def largest_ridge(learning_rate: float, momentum: float) -> float:
    r"""Return half the ridge at which descent with this momentum begins to swing ever wider.

    With :math:`v \leftarrow \beta v + (1-\beta)\lambda w` and
    :math:`w \leftarrow w - \eta v` that is :math:`\eta\lambda = 2(1+\beta)/(1-\beta)`, where a
    root of :math:`z^2 - (1+\beta-\eta(1-\beta)\lambda)z + \beta` reaches -1.
    """
    return (1.0 + momentum) / ((1.0 - momentum) * learning_rate)


def noise_ridge(deviation: float, draws: float, divisor: float) -> float:
    """Return the ridge that public quantities suggest for noisy sums.

    ``lambda = deviation * sqrt(draws) / (0.5 * divisor)``: the noise of the summed gradient, as a
    mean, against coefficients of size one half. Zero noise gives no ridge.
    """
    return float(deviation * np.sqrt(draws) / (0.5 * divisor))
