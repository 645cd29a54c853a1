"""The monitor's benchmark simulates what it says: a unit, a shift, and hospitals without either."""

from __future__ import annotations

import numpy as np

from polyclinic_simulations.bench import monitor


def test_pounds_are_named_and_a_large_shift_is_found() -> None:
    assert monitor.in_pounds(60, 40, (0, 1))
    assert monitor.found(0.5, 0.5, 1.5, 0, (0, 1))


def test_made_risks_have_the_mean_that_is_asked_for_and_outcomes_follow_them() -> None:
    rng = np.random.default_rng(1)
    seen = monitor.seen(rng, monitor.made(rng, 20_000, 0.1, 1.0))
    assert seen.risk is not None
    assert abs(seen.risk.mean() - 0.1) < 0.005
    assert abs(seen.surprise.mean()) < 0.01


def test_alarms_that_last_are_counted_once() -> None:
    none = np.zeros(5, dtype=bool)
    lasting = np.array([False, True, True, False, True])
    assert monitor.Alarms(lasting, none, none).begun == 2
    assert monitor.Alarms(none, none, none).begun == 0


def test_made_doses_are_predicted_rightly_on_the_scale_of_roots() -> None:
    made = monitor.doses(np.random.default_rng(2), 20_000)
    assert made.risk is None
    assert len(made) > 19_800
    assert abs(made.seen.mean()) < 0.03
    assert abs(made.seen.std() - 1.0) < 0.03
