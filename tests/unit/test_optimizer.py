"""The server's optimizer does what its formula says."""

from __future__ import annotations

import numpy as np
import pytest

from polyclinic_server.rounds.optimizer import Optimizer, largest_ridge, noise_ridge
from polyclinic_server.rounds.state import State
from tests.kits.small import small_study


def optimizer(rounds: int = 10, ridge: float = 0.0, average_from: float = 0.5) -> Optimizer:
    return Optimizer(0.5, 0.9, ridge, np.zeros(2), rounds, average_from)


def test_one_step_by_hand() -> None:
    state = optimizer(ridge=0.1).step(State.start(np.array([1.0, 0.0])), np.array([2.0, -1.0]))
    gradient = np.array([2.1, -1.0])
    np.testing.assert_allclose(state.velocity, 0.1 * gradient)
    np.testing.assert_allclose(state.weights, np.array([1.0, 0.0]) - 0.05 * gradient)


@pytest.mark.parametrize("rounds", [1, 2, 3, 10])
@pytest.mark.parametrize("average_from", [0.0, 0.5, 0.9, 0.99])
def test_the_model_is_the_mean_of_the_late_iterates(rounds: int, average_from: float) -> None:
    made, state = optimizer(rounds, average_from=average_from), State.start(np.zeros(2))
    iterates = []
    for number in range(rounds):
        state = made.step(state, np.array([1.0 + number, -2.0]))
        iterates.append(state.weights)
    late = iterates[min(int(average_from * rounds), rounds - 1) :]
    np.testing.assert_allclose(state.average, np.mean(late, axis=0))


def test_a_quadratic_is_minimised() -> None:
    target, state, made = np.array([0.3, -0.7]), State.start(np.zeros(2)), optimizer(400)
    while state.round_number < 400:
        state = made.step(state, state.weights - target)
    np.testing.assert_allclose(state.average, target, atol=1e-3)


def test_defaults_come_from_the_study() -> None:
    for kind, rate in (("binary", 32.0), ("survival", 32.0), ("continuous", 8.0)):
        assert small_study(kind).learning_rate == rate


def test_ridge_follows_public_quantities() -> None:
    assert noise_ridge(deviation=10.0, draws=4, divisor=1000) == pytest.approx(0.04)
    assert noise_ridge(0.0, 4, 1000) == 0.0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("rate", [1.0, 8.0, 32.0])
def test_a_ridge_up_to_the_largest_leads_back_to_the_start_and_twice_that_does_not(
    rate: float, momentum: float
) -> None:
    """However much noise a small epsilon brings, the pull that follows from it must not diverge."""

    def furthest(share: float) -> float:
        start = np.zeros(1)
        ridge = share * largest_ridge(rate, momentum)
        optimizer = Optimizer(rate, momentum, ridge, start, 400, 0.5)
        state = State.start(np.ones(1))
        for _ in range(400):
            state = optimizer.step(state, np.zeros(1))
        return float(np.abs(state.weights[0]))

    assert furthest(1.0) < 1e-3
    assert furthest(2.1) > 1.0
