"""The interval by noise alone holds what noise alone does: many trainings of the same patients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polyclinic_common.data.encoding import Encoding
from polyclinic_server.rounds.noise_of_weights import gain, largest_gain, weight_deviation
from polyclinic_server.rounds.optimizer import Optimizer
from polyclinic_server.rounds.state import State
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.small import small_study, small_table

DRAWS = 12
TRAINING = {"rounds": 20, "calibration": None, "ridge": "release"}


def test_the_gain_of_one_step_is_worked_out_by_hand() -> None:
    """One round, no momentum: the model is minus the learning rate times the noise."""
    one = Optimizer(0.5, 0.0, 0.0, np.zeros(1), 1, 0.0)
    assert gain(one, 3.0) == pytest.approx(0.5)
    # Two rounds, the second iterate kept: -lr (n1 (1 - lr c) + n2).
    two = Optimizer(0.5, 0.0, 0.0, np.zeros(1), 2, 0.5)
    assert gain(two, 1.0) == pytest.approx(0.5 * math.hypot(1.0 - 0.5, 1.0))


def test_no_curvature_is_worse_than_the_bound_and_none_is_worst() -> None:
    usual = Optimizer(32.0, 0.9, 0.01, np.zeros(1), 60, 0.5)
    found = [gain(usual, c) for c in np.geomspace(1e-4, 0.5, 40)]
    assert max(found) <= largest_gain(usual) * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_noise_moves_no_weight_further_than_its_bound(kind: str) -> None:
    """Spread of every weight over trainings that differ in noise alone, against the bound.

    A weight's sample variance over 12 draws is that of the noise times a chi-squared of 11 degrees
    over 11, which exceeds 6.2 with probability 2.7e-10; for at most 30 weights of three studies
    below 1e-6 in all, were the bound exactly the deviation. Power: a bound five times too small
    would be passed by the largest weight's spread nearly always.
    """
    study = small_study(kind, training=TRAINING, privacy={"mode": "secure-sum", "epsilon": 1.0})
    federation = build_federation(study, small_table(300), 0)
    setting = Setting("secure-sum", 1.0, "descent")
    weights = [
        train_federated(
            federation, setting, run_id=f"run-{k}", start=State.start(start_weights(federation))
        ).weights
        for k in range(DRAWS)
    ]
    bound = weight_deviation(study, federation.declared)
    assert bound is not None
    spread = np.std(weights, axis=0, ddof=1)
    assert len(spread) == Encoding(study).width - 1 + Encoding(study).outputs
    assert spread.max() <= bound * math.sqrt(6.2)
    assert spread.max() >= bound / 10.0
