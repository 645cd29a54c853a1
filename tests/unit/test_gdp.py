"""The accounting is Gaussian DP with the analytic conversion, right in both directions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from polyclinic_common.errors import PrivacyError
from polyclinic_common.privacy import gdp

# Reference values: mu by bisection of Balle and Wang's formula in 50-digit arithmetic.
KNOWN_MU = [
    (0.5, 1e-5, 0.1422105587),
    (1.0, 1e-5, 0.2680511232),
    (4.0, 1e-5, 0.9249308977),
    (8.0, 1e-5, 1.666030598),
]


@pytest.mark.parametrize(("epsilon", "delta", "mu"), KNOWN_MU)
def test_mu_of_epsilon_is_the_published_value(epsilon: float, delta: float, mu: float) -> None:
    assert gdp.mu_of(epsilon, delta) == pytest.approx(mu, rel=1e-9)


@given(st.floats(0.01, 20), st.floats(1e-9, 1e-3))
def test_conversion_goes_both_ways(epsilon: float, delta: float) -> None:
    assert gdp.epsilon_of(gdp.mu_of(epsilon, delta), delta) == pytest.approx(epsilon, rel=1e-6)


@given(st.floats(0.05, 5), st.floats(0.05, 3))
def test_delta_is_balle_and_wangs_formula(epsilon: float, mu: float) -> None:
    direct = norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * norm.cdf(-epsilon / mu - mu / 2)
    assert gdp.delta_of(epsilon, mu) == pytest.approx(direct, rel=1e-6, abs=1e-13)


@given(st.floats(0.1, 10), st.integers(1, 2000))
def test_reported_epsilon_is_the_one_calibrated_for(epsilon: float, rounds: int) -> None:
    multiplier = gdp.noise_multiplier(epsilon, 1e-5, rounds)
    assert gdp.spent_epsilon(multiplier, rounds, 1e-5) == pytest.approx(epsilon, rel=1e-6)


def test_one_round_more_costs_more() -> None:
    multiplier = gdp.noise_multiplier(1.0, 1e-5, 60)
    assert gdp.spent_epsilon(multiplier, 61, 1e-5) > 1.0


def test_mu_of_releases_adds_in_squares() -> None:
    assert gdp.compose(3.0, 4.0) == 5.0


def test_no_privacy_parameter_gives_silent_nonsense() -> None:
    for epsilon in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(PrivacyError):
            gdp.mu_of(epsilon, 1e-5)
    for delta in (0.0, 1.0, -1e-5):
        with pytest.raises(PrivacyError):
            gdp.mu_of(1.0, delta)


def test_delta_must_lie_below_one_over_patients() -> None:
    gdp.check_delta(1e-5, 99_999)
    with pytest.raises(PrivacyError) as caught:
        gdp.check_delta(1e-5, 100_000)
    assert caught.value.code == "P002"


def test_a_patient_in_two_hospitals_has_twice_the_mu() -> None:
    twice = gdp.epsilon_of(2 * gdp.mu_of(1.0, 1e-5), 1e-5)
    assert twice == pytest.approx(2.16, abs=0.01)
