"""Noise is normal, fresh every time, and out of reach of every seed.

The statistical tests have a false-alarm probability of at most 1e-6 each; their power against the
mutation they name is given beside them.
"""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2, kstest

from polyclinic_common.privacy.noise import SystemNoise

FALSE_ALARM = 1e-6


def test_noise_has_the_stated_deviation() -> None:
    """Power against noise x 0.9 with 100,000 samples: above 1 - 1e-12."""
    n, deviation = 100_000, 3.7
    sample = SystemNoise().gaussian(n, deviation)
    statistic = float(np.square(sample / deviation).sum())
    low, high = (float(chi2.ppf(tail, n)) for tail in (FALSE_ALARM / 2, 1 - FALSE_ALARM / 2))
    assert low < statistic < high
    assert float(np.square(0.9 * sample / deviation).sum()) < low


def test_noise_is_normal() -> None:
    """Kolmogorov-Smirnov; power against uniform noise of the same variance: above 1 - 1e-12."""
    sample = SystemNoise().gaussian(100_000, 1.0)
    assert kstest(sample, "norm").pvalue > FALSE_ALARM
    uniform = np.random.default_rng(0).uniform(-np.sqrt(3), np.sqrt(3), 100_000)
    assert kstest(uniform, "norm").pvalue < FALSE_ALARM


def test_neighbouring_samples_are_independent() -> None:
    """Lag-one correlation; power against a repeated block: certain."""
    sample = SystemNoise().gaussian(100_000, 1.0)
    z = float(sample[:-1] @ sample[1:]) / np.sqrt(len(sample) - 1)
    assert abs(z) < 5.0


@pytest.mark.parametrize("attempt", range(2))
def test_no_seed_reaches_the_noise(attempt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal draws by chance: probability below 2^-500."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("POLYCLINIC_SEED", "0")
    draws = []
    for _ in range(2):
        random.seed(attempt)
        np.random.seed(attempt)  # noqa: NPY002
        torch.manual_seed(attempt)
        draws.append(SystemNoise().gaussian(16, 1.0))
    assert not np.array_equal(draws[0], draws[1])


def test_two_processes_do_not_share_noise() -> None:
    """A forked process builds its own source; equal draws by chance: below 2^-500."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, SystemNoise().gaussian(16, 1.0).tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    other = np.frombuffer(os.read(reader, 128))
    assert not np.array_equal(other, SystemNoise().gaussian(16, 1.0))


def test_a_source_never_repeats_itself() -> None:
    source = SystemNoise()
    assert not np.array_equal(source.gaussian(16, 1.0), source.gaussian(16, 1.0))


def test_no_word_of_the_stream_gives_infinite_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extremes:
        def words(self, count: int) -> NDArray[np.uint64]:
            return np.array([0, 2**64 - 1], dtype=np.uint64)

    source = SystemNoise()
    monkeypatch.setattr(source, "_stream", Extremes())
    lowest, highest = source.gaussian(2, 1.0)
    assert np.isfinite([lowest, highest]).all()
    assert lowest == pytest.approx(-highest)
