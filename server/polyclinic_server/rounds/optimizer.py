"""From noisy gradient sums to a model: momentum, ridge and iterate averaging.

All of it is post-processing of what the sites released, and costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from polyclinic_common.models.score_head import Vector
from polyclinic_server.rounds.state import State


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
