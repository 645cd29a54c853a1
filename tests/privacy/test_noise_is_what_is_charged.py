"""The noise really added and the sampling really done are what the reported epsilon counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from polyclinic_client.sampling import SystemSampler
from polyclinic_common.models.network import LARGEST_WEIGHT, Vector
from polyclinic_common.privacy import gdp, rdp
from polyclinic_server.optimizer import State
from polyclinic_simulations.federation import build_federation
from polyclinic_simulations.setting import Setting
from polyclinic_simulations.training import Trainer, start_weights, train_alone, train_federated
from tests.conftest import small_study, small_table

EPSILON, DELTA = 2.0, 1e-5
FULL: dict[str, Any] = {"rounds": 5}
SAMPLED: dict[str, Any] = {"rounds": 3, "schedule": "sampled", "batch": 12}
PERSONAL: dict[str, Any] = {"rounds": 4, "personalisation": "mr-mtl"}


class Recorder:
    """A noise source that adds nothing and remembers what it was asked for."""

    def __init__(self, asked: list[float]):
        self._asked = asked

    def gaussian(self, size: int, deviation: float) -> Vector:
        self._asked.append(deviation)
        return np.zeros(size)


@pytest.mark.parametrize("training", [FULL, SAMPLED, PERSONAL])
@pytest.mark.parametrize("alone", [False, True])
def test_epsilon_recomputed_from_the_noise_asked_for_is_the_one_reported(
    training: dict[str, Any], alone: bool
) -> None:
    study = small_study(sites=2, training=training)
    made = build_federation(study, small_table(sites=2), seed=0)
    setting = Setting("local", EPSILON, study.strategy)
    sources: list[list[float]] = []

    def source() -> Recorder:
        sources.append([])
        return Recorder(sources[-1])

    trainer = Trainer(noise=source)
    if alone:
        train_alone(made, made.sites[0].train, made.sites[0].declared, setting, trainer)
    else:
        start = State.start(start_weights(made))
        train_federated(made, setting, run_id="run", start=start, trainer=trainer)
    assert len(sources) == (1 if alone else 2)
    for site, asked in zip(made.sites, sources, strict=False):
        assert len(set(asked)) == 1
        multiplier = asked[0] / study.clip
        if training is SAMPLED:
            rate = study.training.batch / site.declared
            spent = rdp.spent_epsilon(multiplier, rate, len(asked), DELTA)
        else:
            assert len(asked) == study.training.rounds
            spent = gdp.spent_epsilon(multiplier, len(asked), DELTA)
        assert 0.99 * EPSILON < spent <= EPSILON * (1 + 1e-9)


def test_sampling_takes_every_patient_with_the_stated_probability() -> None:
    """False alarm 1e-6; power against a doubled rate with 200,000 draws: above 1 - 1e-12."""
    patients, rate = 200_000, 0.04
    taken = len(SystemSampler().rows(patients, rate, (1, 0)))
    low, high = (int(binom.ppf(tail, patients, rate)) for tail in (5e-7, 1 - 5e-7))
    assert low <= taken <= high
    assert 2 * rate * patients > 1.5 * high


def test_samples_are_fresh_whatever_is_seeded() -> None:
    """Equal samples by chance: below 2^-500."""
    samples: list[NDArray[np.int64]] = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        samples.append(SystemSampler().rows(2000, 0.5, (1, 0)))
    assert not np.array_equal(samples[0], samples[1])


@pytest.mark.parametrize("gradients", ["fast", "opacus"])
@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_no_broadcast_that_a_site_accepts_makes_a_release_infinite(
    gradients: str, kind: str
) -> None:
    study = small_study(kind, model={"kind": "mlp", "hidden": [3]})
    made = build_federation(study, small_table(), seed=0)
    setting = Setting("local", 1.0, "descent")
    recorder = Trainer(gradients, lambda: Recorder([]))
    site = made.sites[0]
    mechanism = recorder.mechanism(study, made.encoding, site.train, site.declared, setting, (0,))
    from polyclinic_client.mechanisms import Memory

    for sign in (1.0, -1.0):
        weights = np.full_like(start_weights(made), sign * LARGEST_WEIGHT)
        assert np.isfinite(mechanism.release(weights, Memory())).all()
