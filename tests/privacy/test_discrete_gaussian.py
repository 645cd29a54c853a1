"""Discrete Gaussian noise has the probabilities that the accounting charges: statistics.

Each statistic has a false-alarm probability of 1e-8, all 48 together below 1e-6. The power against
each mutation named here, above 1 - 1e-6, is computed where it is named. What can be shown without
chance is in ``test_discrete_gaussian_is_exact.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import isqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, chi2, ncx2, norm

from polyclinic_common.privacy import discrete_gaussian as module
from polyclinic_common.privacy.discrete_gaussian import (
    LARGEST_VARIANCE,
    discrete_gaussian,
)
from polyclinic_common.privacy.streams import system_stream

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
FALSE_ALARM = 1e-8  # of one statistic; 48 are looked at
SAMPLES = 400_000
SMALL = (1, 2, 3, 5, 16, 50)
LARGE = (2**24, 2**24 + 12_345, 2**26, 2**26 + 1, 3**20, LARGEST_VARIANCE)


@cache
def sample(variance: int) -> Integers:
    return discrete_gaussian(system_stream(), SAMPLES, variance)


def weights(variance: float) -> tuple[Integers, Floats]:
    """Integers to 14 deviations and their probabilities (the rest is below 1e-43)."""
    reach = int(14 * variance**0.5) + 1
    x = np.arange(-reach, reach + 1)
    weight = np.exp(-(x**2) / (2 * variance))
    return x, weight / weight.sum()


def cells(variance: int) -> tuple[Integers, Floats]:
    """Left ends and probabilities of cells, each expected at least 100 times in the sample."""
    if variance > 1000:  # the discrete and the continuous distribution function agree to 1e-7
        ends = np.rint(norm.ppf(np.arange(1, 200) / 200) * variance**0.5).astype(np.int64)
        below = norm.cdf((ends - 0.5) / variance**0.5)
        return ends, np.diff(below, prepend=0.0, append=1.0)
    x, probability = weights(variance)
    kept = x[1:][probability[1:] * SAMPLES >= 100]
    below = np.array([probability[x < end].sum() for end in kept[1:]])
    return kept[1:], np.diff(below, prepend=0.0, append=1.0)


def p_shape(drawn: Integers, variance: int) -> float:
    """Pearson's chi-square over the cells."""
    ends, probability = cells(variance)
    expected = probability * len(drawn)
    counts = np.bincount(np.searchsorted(ends, drawn, side="right"), minlength=len(expected))
    return float(chi2.sf(np.sum((counts - expected) ** 2 / expected), len(expected) - 1))


def p_deviation(drawn: Integers, variance: int) -> float:
    """Sum of squares over the variance: chi-square, as the samples are all but normal."""
    statistic = float(np.square(drawn / variance**0.5).sum())
    return 2 * float(min(chi2.cdf(statistic, len(drawn)), chi2.sf(statistic, len(drawn))))


def p_lattice(drawn: Integers, variance: int) -> float:
    """The four lowest bits are uniform."""
    counts = np.bincount(drawn & 15, minlength=16)
    expected = len(drawn) / 16
    return float(chi2.sf(np.sum((counts - expected) ** 2 / expected), 15))


def p_count(count: int, trials: int, probability: float) -> float:
    """Two-sided, exact."""
    low, high = binom.cdf(count, trials, probability), binom.sf(count - 1, trials, probability)
    return min(1.0, 2 * float(min(low, high)))


def p_symmetry(drawn: Integers, variance: int) -> float:
    return p_count(int((drawn < 0).sum()), int((drawn != 0).sum()), 0.5)


def p_tails(drawn: Integers, variance: int) -> float:
    """Counts beyond 3, 4, 5 and 6 deviations: the smallest p-value, four times."""
    counts = [int((np.abs(drawn) > k * variance**0.5).sum()) for k in (3, 4, 5, 6)]
    pairs = zip(counts, (3, 4, 5, 6), strict=True)
    return 4 * min(p_count(count, len(drawn), 2 * float(norm.sf(k))) for count, k in pairs)


def p_independence(drawn: Integers, variance: int) -> float:
    """Products of neighbours, and of places one block apart; sums of many products are normal."""
    worst = 0.0
    for lag in (1, module._BLOCK):
        products = drawn[:-lag] / variance * drawn[lag:]
        worst = max(worst, abs(float(products.sum())) / (len(products)) ** 0.5)
    return 4 * float(norm.sf(worst))


CHECKS = (p_shape, p_deviation, p_lattice, p_symmetry, p_tails, p_independence)
Check = Callable[[Integers, int], float]


@pytest.mark.parametrize("variance", SMALL)
def test_small_variances_have_the_exact_probabilities(variance: int) -> None:
    assert p_shape(sample(variance), variance) > FALSE_ALARM
    assert p_symmetry(sample(variance), variance) > FALSE_ALARM


@pytest.mark.parametrize("variance", LARGE)
@pytest.mark.parametrize("check", CHECKS)
def test_large_variances_pass_every_check(check: Check, variance: int) -> None:
    assert check(sample(variance), variance) > FALSE_ALARM


def power_of_shape(variance: int, mutant: Floats) -> float:
    """Return the power of `p_shape` against other probabilities of the integers of `weights`."""
    ends, probability = cells(variance)
    x, _ = weights(variance)
    cell = np.searchsorted(ends, x, side="right")
    moved = np.bincount(cell, weights=mutant, minlength=len(probability))
    distance = SAMPLES * float(np.sum((moved - probability) ** 2 / probability))
    freedom = len(probability) - 1
    return float(ncx2.sf(chi2.isf(FALSE_ALARM, freedom), freedom, distance))


def rounded(variance: int) -> Floats:
    """The rounded continuous Gaussian of this variance."""
    x, _ = weights(variance)
    return np.diff(norm.cdf(np.append(x - 0.5, x[-1] + 0.5) / variance**0.5))


def zero_twice(variance: int) -> Floats:
    """What comes out when the negative zero is not refused."""
    x, probability = weights(variance)
    mutant = np.where(x == 0, 2.0, 1.0) * probability
    return np.asarray(mutant / mutant.sum())


@pytest.mark.parametrize(
    ("variance", "mutant"),
    [(v, weights(0.81 * v)[1]) for v in SMALL]
    + [(v, zero_twice(v)) for v in SMALL]
    + [(v, rounded(v)) for v in (1, 2, 3)],
)
def test_mutation_of_a_small_variance_is_caught(variance: int, mutant: Floats) -> None:
    """Deviation x 0.9, zero with both signs, rounded continuous noise: power above 1 - 1e-6."""
    x, _ = weights(variance)
    edge = (len(x) - len(mutant)) // 2
    mutant = np.pad(mutant, edge)
    assert power_of_shape(variance, mutant) > 1 - 1e-6
    drawn = np.random.default_rng(0).choice(x, SAMPLES, p=mutant / mutant.sum())
    assert p_shape(drawn, variance) < FALSE_ALARM


def laplace(variance: int) -> Integers:
    """The candidates, all kept."""
    stream = system_stream()
    scale = isqrt(variance) + 1
    size = module._below(stream, scale, SAMPLES) + scale * module._geometric(stream, SAMPLES)
    return np.where(module._below(stream, 2, SAMPLES) == 0, size, -size)


ONE_IN_25 = np.arange(SAMPLES) % 25 == 0
MUTATIONS: list[tuple[str, Check, Callable[[int], Integers]]] = [
    ("deviation x 0.9", p_deviation, lambda v: sample(v) * 9 // 10),
    ("deviation x 0.9", p_shape, lambda v: sample(v) * 9 // 10),
    ("deviation x 2", p_deviation, lambda v: sample(v) * 2),
    ("even integers only", p_lattice, lambda v: sample(v) * 2 // 4 * 2),
    ("coarse floating point", p_lattice, lambda v: np.rint(sample(v) / 8).astype(np.int64) * 8),
    ("no sign", p_symmetry, lambda v: np.abs(sample(v))),
    ("52% negative", p_symmetry, lambda v: np.where(ONE_IN_25, -np.abs(sample(v)), sample(v))),
    ("nothing refused", p_tails, laplace),
    ("cut at 3 deviations", p_tails, lambda v: np.clip(sample(v), -3 * isqrt(v), 3 * isqrt(v))),
    ("one block again and again", p_independence, lambda v: np.resize(sample(v)[:8192], SAMPLES)),
    ("every sample twice", p_independence, lambda v: np.repeat(sample(v)[: SAMPLES // 2], 2)),
]


@pytest.mark.parametrize("variance", [2**24, LARGEST_VARIANCE])
@pytest.mark.parametrize(("name", "check", "mutant"), MUTATIONS)
def test_mutation_of_a_large_variance_is_caught(
    name: str, check: Check, mutant: Callable[[int], Integers], variance: int
) -> None:
    """Power above 1 - 1e-6: to come from 1e-30 back to 1e-8 takes five deviations of luck."""
    assert check(mutant(variance), variance) < 1e-30


def test_the_variance_of_the_samples_is_the_one_that_is_charged() -> None:
    """By summation, without sampling."""
    for variance in SMALL:
        x, probability = weights(variance)
        assert 1 - 1e-6 < float(probability @ (x * x)) / variance <= 1 + 1e-15
