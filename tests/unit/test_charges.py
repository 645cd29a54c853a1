"""A charge says what leaves at its true cost: checked against exact sums over the integers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.stats import norm

from polyclinic_common.privacy import account, gdp
from polyclinic_common.privacy.charges import Charge, GaussianSum, SampledSteps, Vote

Floats = NDArray[np.float64]
EPSILONS = (0.0, 0.05, 0.3, 1.0, 3.0, 10.0, 25.0)


def small_sum(sensitivity: float, variance: int, shares: int = 1, length: int = 1) -> GaussianSum:
    """Return a charge with less noise than is allowed, where its formulas show best."""
    return GaussianSum.model_construct(
        sensitivity=sensitivity, variance=variance, shares=shares, length=length
    )


def discrete_gaussian(variance: float) -> Floats:
    reach = math.ceil(13 * math.sqrt(variance))
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / 2 / variance)
    return np.asarray(weights / weights.sum())


def exact_delta(noise: Floats, shift: tuple[int, ...], epsilon: float) -> float:
    """Return the hockey-stick divergence of `noise` and `noise` moved, outputs as an array."""
    wide = np.pad(noise, [(0, step) for step in shift])
    moved = np.pad(noise, [(step, 0) for step in shift])
    return float(np.maximum(0.0, wide - math.exp(epsilon) * moved).sum())


def bound(charge: GaussianSum, epsilon: float) -> float:
    """Return the delta that Gaussian DP and the term for discreteness promise."""
    twice = account.discreteness(charge)
    return math.exp(twice / 2) * gdp.delta_of(epsilon - twice, charge.mu)


@pytest.mark.parametrize("deviation", [32, 64, 300, 4096])
@pytest.mark.parametrize("mu", [0.05, 0.3, 1.0, 4.0])
def test_one_share_costs_at_most_its_charge(deviation: int, mu: float) -> None:
    shift = max(1, round(mu * deviation))
    charge = small_sum(shift, deviation**2)
    noise = discrete_gaussian(deviation**2)
    for epsilon in EPSILONS:
        exact = exact_delta(noise, (shift,), epsilon)
        assert exact <= bound(charge, epsilon) + 1e-13
        # ... and not much less, so that the noise is not wasted.
        assert exact >= 0.5 * gdp.delta_of(epsilon, charge.mu) - 1e-13


@pytest.mark.parametrize("shares", [2, 3, 5])
@pytest.mark.parametrize("shift", [3, 40, 150])
def test_a_sum_of_shares_costs_at_most_its_charge(shares: int, shift: int) -> None:
    one = noise = discrete_gaussian(40**2)
    for _ in range(shares - 1):
        noise = np.convolve(noise, one)
    charge = small_sum(shift, 40**2, shares)
    for epsilon in EPSILONS:
        assert exact_delta(noise, (shift,), epsilon) <= bound(charge, epsilon) + 1e-13


@pytest.mark.parametrize("shift", [(3, 4), (30, 0), (20, 21)])
def test_a_vector_costs_at_most_its_charge(shift: tuple[int, int]) -> None:
    noise = np.multiply.outer(discrete_gaussian(32**2), discrete_gaussian(32**2))
    charge = small_sum(math.hypot(*shift), 32**2, length=2)
    for epsilon in EPSILONS:
        assert exact_delta(noise, shift, epsilon) <= bound(charge, epsilon) + 1e-13


@pytest.mark.parametrize("shares", [1, 2, 4])
def test_the_ideal_variance_is_that_of_the_normal_that_rounds_to_the_noise(shares: int) -> None:
    # Where the best test of shifted noise lies between two integers, rounding loses nothing, and
    # the two differ by total variation only: 6e-4 / V^2 (PRIVACY section 4). V + 1/12 would not do.
    one = noise = discrete_gaussian(8**2)
    for _ in range(shares - 1):
        noise = np.convolve(noise, one)
    charge = small_sum(6, 8**2, shares)

    def worst(variance: float) -> float:
        thresholds = np.arange(-20, 3) + 0.5
        epsilons = (6**2 - 2 * 6 * thresholds) / 2 / variance
        return max(
            abs(exact_delta(noise, (6,), e) - gdp.delta_of(e, 6 / math.sqrt(variance)))
            / (1 + math.exp(e))
            for e in epsilons
            if e > 0
        )

    allowed = 6e-4 / charge.ideal_variance**2
    assert worst(charge.ideal_variance) < allowed
    assert worst(charge.ideal_variance + 1 / 12) > 5 * allowed


@pytest.mark.parametrize("variance", [52**2, 300**2, 2**24, 2**28])
def test_noise_and_rounded_normal_differ_by_eta_within_32_deviations(variance: int) -> None:
    charge = small_sum(1.0, variance)
    ideal = charge.ideal_variance
    points, weights = np.polynomial.legendre.leggauss(30)
    x = np.round(np.linspace(-32, 32, 1001) * math.sqrt(variance))[:, None]
    # A normal density averaged over [x - 1/2, x + 1/2], by that of variance + 1/12.
    spread = np.log1p(
        (np.expm1(-x * points / 2 / ideal - points**2 / 8 / ideal) * weights / 2).sum(1)
    )
    ratio = spread - x[:, 0] ** 2 / (24 * ideal * variance) + math.log1p(1 / 12 / ideal) / 2
    eta = account.discreteness(charge) / 2
    assert 0.95 * eta < np.abs(ratio).max() < eta


@example(37.0, 1.0)
@given(st.floats(1e-6, 50), st.floats(0, 1))
def test_a_vote_costs_at_most_its_mu(epsilon: float, fraction: float) -> None:
    vote = Vote(epsilon=epsilon)
    truth, lie = 1 / (1 + math.exp(-epsilon)), 1 / (1 + math.exp(epsilon))
    smaller = fraction * epsilon
    exact = truth - math.exp(smaller) * lie  # 1 - truth would be nought from epsilon = 37 on
    assert gdp.delta_of(smaller, vote.mu) >= exact * (1 - 1e-9) - 1e-15
    # It is the least mu that does: both are equally hard to test at the fixed point.
    assert norm.cdf(-vote.mu / 2) == pytest.approx(1 / (1 + math.exp(epsilon)), rel=1e-9)


@given(st.floats(1e-6, 500), st.floats(1.001, 10))
def test_a_vote_that_says_more_costs_more(epsilon: float, factor: float) -> None:
    assert 0 < Vote(epsilon=epsilon).mu < Vote(epsilon=epsilon * factor).mu < math.inf


SENSITIVITIES, VARIANCES = st.floats(1e-3, 1e9), st.integers(2**24, 2**48)


@given(SENSITIVITIES, VARIANCES, st.integers(1, 50))
def test_more_sensitivity_less_noise_or_fewer_shares_cost_more(
    sensitivity: float, variance: int, shares: int
) -> None:
    def mu(sensitivity: float, variance: int, shares: int) -> float:
        return GaussianSum(sensitivity=sensitivity, variance=variance, shares=shares, length=1).mu

    base = mu(sensitivity, variance, shares)
    assert mu(sensitivity * 1.01, variance, shares) > base
    assert mu(sensitivity, 2 * variance, shares) < base
    assert mu(sensitivity, variance, shares + 1) < base
    assert base > sensitivity / math.sqrt(shares * variance) * (1 - 1e-15)


CHARGES: tuple[Charge, ...] = (
    GaussianSum(sensitivity=0.1, variance=2**24 + 1, shares=3, length=31),
    SampledSteps(rate=0.1, multiplier=1 / 3, steps=100),
    Vote(epsilon=0.7),
)


@pytest.mark.parametrize("charge", CHARGES)
def test_a_charge_survives_being_stored(charge: Charge) -> None:
    adapter: TypeAdapter[Charge] = TypeAdapter(Charge)
    again = adapter.validate_json(adapter.dump_json(charge))
    assert again == charge
    assert {again: 1} == {charge: 1}


SUM, SAMPLED, VOTE = CHARGES


@pytest.mark.parametrize(
    ("charge", "change"),
    [
        (SUM, {"sensitivity": 0}),
        (SUM, {"sensitivity": math.nan}),
        (SUM, {"sensitivity": math.inf}),
        (SUM, {"sensitivity": "1"}),
        (SUM, {"variance": 2**24 - 1}),
        (SUM, {"shares": 0}),
        (SUM, {"length": 0}),
        (SAMPLED, {"rate": 0}),
        (SAMPLED, {"rate": 1.1}),
        (SAMPLED, {"multiplier": 0}),
        (SAMPLED, {"steps": 0}),
        (VOTE, {"epsilon": 0}),
        (VOTE, {"free": True}),
        (VOTE, {"kind": "gift"}),
    ],
)
def test_a_charge_that_would_cost_nothing_or_cannot_be_read_is_refused(
    charge: Charge, change: dict[str, object]
) -> None:
    adapter: TypeAdapter[Charge] = TypeAdapter(Charge)
    with pytest.raises(ValidationError):
        adapter.validate_python(charge.model_dump() | change)
