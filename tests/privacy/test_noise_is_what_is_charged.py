"""The noise really added and the sampling really done are what the reported epsilon counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from polyclinic_client.compute.integers import Moment
from polyclinic_client.compute.local_releases import SumRelease
from polyclinic_client.compute.sampling import SystemSampler
from polyclinic_client.compute.training import local_mechanism
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.state import ReleaseState
from polyclinic_common.models.score_head import LARGEST_WEIGHT
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.releases.plans import local_sum_plan, noise_plan
from polyclinic_server.rounds.state import State
from polyclinic_simulations.baselines.alone import train_alone
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.noise import Recorder
from tests.kits.small import small_study, small_table

EPSILON, DELTA = 2.0, 1e-5
FULL: dict[str, Any] = {"rounds": 5}
SAMPLED: dict[str, Any] = {"rounds": 3, "schedule": "sampled", "batch": 12}
PERSONAL: dict[str, Any] = {"rounds": 4, "personalisation": "mr-mtl"}
SLACK = 1.01  # the sensitivity of sums that are rounded once, in clips


def federation_of(mode: str, training: dict[str, Any]) -> Federation:
    privacy = {"mode": mode, "epsilon": EPSILON, "delta": DELTA}
    study = small_study(sites=2, training=training, privacy=privacy)
    return build_federation(study, small_table(sites=2), seed=0)


def sources_and_charges(
    made: Federation, folder: Path
) -> list[tuple[Recorder, list[ReleaseState], float]]:
    """Train; every hospital's source, its ledger's releases and the epsilon that it reports."""
    study, recorders = made.study, list[Recorder]()

    def source(secret: bytes) -> Recorder:
        recorders.append(Recorder(secret))
        return recorders[-1]

    trained = train_federated(
        made,
        Setting(study.privacy.mode, EPSILON, study.strategy),
        run_id="run",
        start=State.start(start_weights(made)),
        trainer=Trainer(noise=source),
        folder=folder,
    )
    asked = {each.secret: each for each in recorders if each.was_asked}
    assert len(asked) == len([each for each in recorders if each.was_asked]) == 2
    found = []
    for index, site in enumerate(made.sites, start=1):
        with SiteFolder.open(folder / f"{index:03d}") as opened:
            releases = opened.ledger.releases_of("run")
            spent = trained.budgets[site.name].spent
            found.append((asked.pop(opened.ledger.secret), releases, spent))
    return found


@pytest.mark.parametrize("mode", ["local", "secure-sum"])
def test_epsilon_recomputed_from_the_exact_noise_asked_for_is_the_one_reported(
    mode: str, tmp_path: Path
) -> None:
    made = federation_of(mode, FULL)
    rounds, shares = made.study.training.rounds, made.study.m - made.study.c
    for asked, releases, reported in sources_and_charges(made, tmp_path):
        assert len(asked.variances) == len(releases) == rounds
        assert len(set(asked.contexts)) == rounds
        squares = 0.0
        for variance, held in zip(asked.variances, releases, strict=True):
            ledger = held.reserved
            grid = 2.0**ledger.grid_exponent
            assert isinstance(ledger.headline, GaussianSum)
            assert ledger.clip == made.study.clip
            moved = ledger.headline.sensitivity * grid / made.study.clip
            assert 1.0 <= moved <= SLACK
            noise = np.sqrt((shares if mode == "secure-sum" else 1) * variance - 1 / 12)
            squares += (moved * made.study.clip / grid / noise) ** 2
            assert ledger.length == start_weights(made).size
        spent = gdp.epsilon_of(float(np.sqrt(squares)), DELTA)
        assert spent <= reported <= EPSILON
        assert spent > 0.99 * EPSILON


@pytest.mark.parametrize("training", [FULL, PERSONAL])
def test_a_hospital_alone_asks_for_the_exact_noise_of_its_epsilon(training: dict[str, Any]) -> None:
    made, recorders = federation_of("local", training), list[Recorder]()

    def source(secret: bytes) -> Recorder:
        recorders.append(Recorder(secret))
        return recorders[-1]

    study, site = made.study, made.sites[0]
    setting, trainer = Setting("local", EPSILON, study.strategy), Trainer(noise=source)
    train_alone(made, site.train, site.declared, setting, trainer)
    (asked,) = recorders
    plan = noise_plan(study, site.declared, EPSILON)
    sums = local_sum_plan(study, "products", site.declared, plan)
    assert sums.length == start_weights(made).size
    assert asked.variances == [sums.variance] * study.training.rounds
    multiplier = np.sqrt(sums.variance - 1 / 12) * sums.grid / study.clip
    spent = gdp.spent_epsilon(multiplier, study.training.rounds, DELTA)
    assert 0.97 * EPSILON < spent <= EPSILON  # of the clip alone, without the slack of rounding


def test_epsilon_recomputed_from_personal_steps_is_the_one_reported(tmp_path: Path) -> None:
    """Each release is one step on the whole cohort, with exact noise inside it."""
    made = federation_of("local", PERSONAL)
    for asked, releases, reported in sources_and_charges(made, tmp_path):
        assert len(asked.variances) == len(releases) == made.study.training.rounds
        squares = 0.0
        for variance, held in zip(asked.variances, releases, strict=True):
            assert isinstance(held.reserved.headline, GaussianSum)
            squares += held.reserved.headline.sensitivity**2 / (variance - 1 / 12)
        spent = gdp.epsilon_of(float(np.sqrt(squares)), DELTA)
        assert 0.99 * EPSILON < spent <= reported <= EPSILON


@pytest.mark.parametrize("alone", [False, True])
def test_epsilon_recomputed_from_the_sampled_noise_asked_for_is_the_one_reported(
    alone: bool, tmp_path: Path
) -> None:
    made = federation_of("local", SAMPLED)
    study, site = made.study, made.sites[0]
    if alone:
        recorder = Recorder()
        setting, trainer = Setting("local", EPSILON, "fedavg"), Trainer(noise=lambda _: recorder)
        train_alone(made, site.train, site.declared, setting, trainer)
        found = [(recorder, EPSILON)]
    else:
        found = [(asked, told) for asked, _, told in sources_and_charges(made, tmp_path)]
    for site, (asked, reported) in zip(made.sites, found, strict=False):
        assert len(set(asked.deviations)) == 1
        multiplier = asked.deviations[0] / study.clip
        rate = study.training.batch / site.declared
        spent = rdp.spent_epsilon(multiplier, rate, len(asked.deviations), DELTA)
        assert 0.99 * EPSILON < spent <= reported * (1 + 1e-9) <= EPSILON * (1 + 2e-9)


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
    """Nor so large that it would mean more than every patient at the bound."""
    privacy = {"mode": "local"}
    study = small_study(kind, model={"kind": "mlp", "hidden": [3]}, privacy=privacy)
    made = build_federation(study, small_table(), seed=0)
    site = made.sites[0]
    private = Trainer(gradients).private(study, made.encoding)
    mechanism = local_mechanism(study, private, site.train, site.declared, Recorder())
    assert isinstance(mechanism, SumRelease)
    moment = Moment(ReleaseId("run", 1, "update"), b"")
    for sign in (1.0, -1.0):
        weights = np.full_like(start_weights(made), sign * LARGEST_WEIGHT)
        total = private.clipped().gradient_sum(weights, private.patients(site.train).blocks())
        assert np.isfinite(total).all()
        drawn = mechanism.draw(weights, weights, moment)
        assert np.abs(drawn).max() <= len(site.train) * mechanism.plan.sensitivity
