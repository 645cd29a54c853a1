"""Every patient is in every step with the probability that is charged, and for no other reason.

The samples are those that a site's own steps pass to the network: 500 rounds of three steps over
ten patients, of whom each is taken with probability q = 0.4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from polyclinic_client.compute.patients import Patients
from polyclinic_common.privacy.charges import SampledSteps
from tests.kits.hospital import DECLARED, Hospital
from tests.kits.small import small_study

FALSE_ALARM = 1e-6
ROUNDS, PATIENTS = 500, 10
SAMPLED: dict[str, Any] = {"rounds": 2, "schedule": "sampled", "batch": 4}
Samples = NDArray[np.bool_]


def sampled(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Samples, SampledSteps]:
    """Return who was in which step, in the order of the steps, and the price of a round."""
    study = small_study(training=SAMPLED, privacy={"mode": "local"})
    hospital = Hospital(study, path, PATIENTS, "fast")
    charge = hospital.planned["update"].fallback
    assert isinstance(charge, SampledSteps)
    assert charge.rate == SAMPLED["batch"] / DECLARED
    honest, seen = Patients.blocks, list[Samples]()

    def blocks(patients: Patients, rows: NDArray[np.int64]) -> Any:
        seen.append(np.isin(np.arange(len(patients)), rows))
        return honest(patients, rows)

    monkeypatch.setattr(Patients, "blocks", blocks)
    for number in range(1, ROUNDS + 1):
        hospital.draw("update", number)
    assert len(seen) == charge.steps * ROUNDS
    return np.stack(seen), charge


def oddities(samples: Samples, rate: float) -> list[str]:
    """Say what is odd about samples of shape (n, patients).

    Every count has a binomial law; all two-sided bounds together are passed with probability
    `FALSE_ALARM` at most. Seen for certain but for 1e-9: a rate of 0.8, samples used twice, samples
    of one size.
    """
    n, patients = samples.shape
    one = samples.astype(np.int64)
    before, after = one[0::2], one[1::2]
    sizes = np.bincount(one.sum(axis=1), minlength=patients + 1)
    pairs, next_ones = (one.T @ one)[np.triu_indices(patients, 1)], (before.T @ after).ravel()
    laws = [
        ("a patient", one.sum(axis=0), n, np.full(patients, rate)),
        ("two patients together", pairs, n, np.full(pairs.size, rate**2)),
        ("one sample and the next", next_ones, n // 2, np.full(next_ones.size, rate**2)),
        ("how many", sizes, n, binom.pmf(np.arange(patients + 1), patients, rate)),
    ]
    rare = FALSE_ALARM / (2 * sum(count.size for _, count, _, _ in laws))
    return [
        what
        for what, count, of, chance in laws
        if (binom.cdf(count, of, chance) < rare).any()
        or (binom.sf(count - 1, of, chance) < rare).any()
    ]


def test_the_samples_are_those_that_are_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, charge = sampled(tmp_path / "site", monkeypatch)
    assert oddities(samples, charge.rate) == []


def test_samples_of_another_kind_are_seen() -> None:
    rng, shape = np.random.default_rng(8), (3 * ROUNDS, PATIENTS)
    fresh = rng.random(shape) < 0.4
    assert oddities(fresh, 0.4) == []
    assert oddities(rng.random(shape) < 0.8, 0.4) != []
    assert "one sample and the next" in oddities(np.repeat(fresh[::2], 2, axis=0), 0.4)
    assert "one sample and the next" in oddities(np.repeat(fresh[::3], 3, axis=0), 0.4)
    shuffled = np.stack([rng.permutation(PATIENTS) < 4 for _ in range(len(fresh))])
    assert "how many" in oddities(shuffled, 0.4)
    twins = fresh.copy()
    twins[:, 1] = twins[:, 0]
    assert "two patients together" in oddities(twins, 0.4)
