"""The cost of sampled Gaussian steps agrees with two other libraries; noise is never too small."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.prv import prv_epsilon

GRID = [
    (multiplier, rate, steps)
    for multiplier in (0.4, 0.7, 1.0, 2.0, 10.0, 60.0)
    for rate in (1e-4, 0.01, 0.064, 0.5, 1.0)
    for steps in (1, 60, 2000)
]
RATES = st.floats(1e-4, 1.0)
MULTIPLIERS = st.floats(0.3, 50)
STEPS = st.integers(1, 20_000)
DELTAS = st.floats(1e-9, 1e-4)


def google_epsilon(multiplier: float, rate: float, steps: int, delta: float) -> float:
    accountant = RdpAccountant(
        rdp.ORDERS, dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    ).compose(
        dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(multiplier)), steps
    )
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(("multiplier", "rate", "steps"), GRID)
def test_epsilon_is_that_of_dp_accounting(multiplier: float, rate: float, steps: int) -> None:
    mine = rdp.spent_epsilon(multiplier, rate, steps, 1e-5)
    assert mine == pytest.approx(google_epsilon(multiplier, rate, steps, 1e-5), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(MULTIPLIERS, RATES, STEPS, DELTAS)
def test_epsilon_is_that_of_dp_accounting_everywhere(
    multiplier: float, rate: float, steps: int, delta: float
) -> None:
    mine = rdp.spent_epsilon(multiplier, rate, steps, delta)
    assert mine == pytest.approx(google_epsilon(multiplier, rate, steps, delta), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(MULTIPLIERS, st.floats(1e-3, 1.0))
def test_rdp_is_that_of_opacus(multiplier: float, rate: float) -> None:
    theirs = compute_rdp(
        q=rate, noise_multiplier=multiplier, steps=1, orders=[float(a) for a in rdp.ORDERS]
    )
    finite = np.isfinite(theirs)  # Opacus overflows in the binomials of the largest orders
    assert finite.sum() > 60
    mine = rdp.sampled_gaussian(rate, multiplier)
    np.testing.assert_allclose(mine[finite], np.asarray(theirs)[finite], rtol=1e-6)


def test_a_tiny_sampling_rate_loses_no_digits() -> None:
    # At order 2 the sum is 1 + q^2 (e^(1/sigma^2) - 1).
    for rate in (1e-4, 1e-7, 1e-12):
        exact = math.log1p(rate**2 * math.expm1(1.0))
        assert rdp.sampled_gaussian(rate, 1.0)[0] == pytest.approx(exact, rel=1e-13)


def test_limits_are_exact() -> None:
    assert not rdp.sampled_gaussian(0.0, 1.0).any()
    half_orders = np.asarray(rdp.ORDERS) / 2
    np.testing.assert_array_equal(rdp.gaussian(2.0), half_orders / 4)
    np.testing.assert_array_equal(rdp.sampled_gaussian(1.0, 2.0), rdp.gaussian(2.0))
    np.testing.assert_allclose(rdp.sampled_gaussian(1 - 1e-12, 2.0), rdp.gaussian(2.0), rtol=1e-9)
    assert rdp.spent_epsilon(1.0, 0.0, 1000, 1e-5) == 0
    assert rdp.spent_epsilon(1.0, 0.5, 0, 1e-5) == 0
    assert rdp.spent_epsilon(math.inf, 0.5, 10, 1e-5) == 0
    assert rdp.spent_epsilon(1e-200, 0.5, 10, 1e-5) == math.inf


@settings(deadline=None)
@given(MULTIPLIERS, st.floats(1e-4, 0.9), st.integers(1, 20_000))
def test_more_sampling_more_steps_or_less_noise_never_cost_less(
    multiplier: float, rate: float, steps: int
) -> None:
    cost = rdp.spent_epsilon(multiplier, rate, steps, 1e-5) * (1 - 1e-12)
    assert rdp.spent_epsilon(multiplier, rate * 1.1, steps, 1e-5) >= cost
    assert rdp.spent_epsilon(multiplier, rate, steps + 1, 1e-5) >= cost
    assert rdp.spent_epsilon(multiplier / 1.1, rate, steps, 1e-5) >= cost
    assert (rdp.sampled_gaussian(rate, multiplier) <= rdp.gaussian(multiplier) * (1 + 1e-12)).all()


@settings(deadline=None)
@given(st.floats(0.05, 30), DELTAS, st.floats(1e-3, 1.0), st.integers(10, 20_000))
def test_calibrated_noise_costs_epsilon_and_never_more(
    epsilon: float, delta: float, rate: float, steps: int
) -> None:
    multiplier = rdp.noise_multiplier(epsilon, delta, rate, steps)
    assert 0.999 * epsilon <= rdp.spent_epsilon(multiplier, rate, steps, delta) <= epsilon


@given(MULTIPLIERS, st.integers(1, 2000), DELTAS)
def test_without_sampling_epsilon_is_not_below_gaussian_dp(
    multiplier: float, releases: int, delta: float
) -> None:
    exact = gdp.spent_epsilon(multiplier, releases, delta)
    assert rdp.spent_epsilon(multiplier, 1.0, releases, delta) >= exact * (1 - 1e-9)


def test_an_account_mixes_sampled_and_unsampled_entries() -> None:
    account = 100 * rdp.sampled_gaussian(0.05, 1.0) + rdp.gaussian(5.0)
    together = rdp.epsilon_of(account, 1e-5)
    alone = rdp.spent_epsilon(1.0, 0.05, 100, 1e-5)
    assert alone < together < alone + rdp.spent_epsilon(5.0, 1.0, 1, 1e-5)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_epsilon_is_refused(epsilon: float) -> None:
    with pytest.raises(PrivacyError) as caught:
        rdp.noise_multiplier(epsilon, 1e-5, 0.1, 10)
    assert caught.value.code == Code.PRIVACY_PARAMETER


def test_an_epsilon_out_of_reach_of_delta_is_refused() -> None:
    assert rdp.noise_multiplier(0.004, 1e-5, 0.01, 100) > 0
    with pytest.raises(PrivacyError, match="cannot be reached at delta 1e-05"):
        rdp.noise_multiplier(0.003, 1e-5, 0.01, 100)


def test_other_nonsense_is_refused() -> None:
    for delta in (0.0, 1.0, -1e-5, math.nan):
        with pytest.raises(PrivacyError) as caught:
            rdp.spent_epsilon(1.0, 0.1, 10, delta)
        assert caught.value.code == Code.PRIVACY_DELTA
    for multiplier, rate, steps in [(0, 0.1, 1), (-1, 0.1, 1), (math.nan, 0.1, 1), (1, 1.1, 1)]:
        with pytest.raises(PrivacyError):
            rdp.spent_epsilon(multiplier, rate, steps, 1e-5)
    with pytest.raises(PrivacyError):
        rdp.spent_epsilon(1.0, 0.1, -1, 1e-5)
    for rate, steps in [(0.0, 10), (1.5, 10), (math.nan, 10), (0.1, 0)]:
        with pytest.raises(PrivacyError):
            rdp.noise_multiplier(1.0, 1e-5, rate, steps)


@pytest.mark.parametrize(
    ("multiplier", "rate", "steps"), [(1.0, 0.01, 1000), (0.8, 0.064, 200), (5.0, 1.0, 10)]
)
def test_prv_lies_between_the_loss_distribution_and_rdp(
    multiplier: float, rate: float, steps: int
) -> None:
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(multiplier))
    tight = PLDAccountant().compose(event, steps).get_epsilon(1e-5)
    epsilon = prv_epsilon(multiplier, rate, steps, 1e-5)
    assert epsilon is not None
    assert tight <= epsilon <= min(tight + 0.02, rdp.spent_epsilon(multiplier, rate, steps, 1e-5))


@pytest.mark.parametrize(
    ("multiplier", "rate", "steps", "delta"),
    [
        (1e-3, 0.01, 10, 1e-5),  # no noise to speak of
        (1e-200, 0.5, 10, 1e-5),
        (1e-3, 1.0, 1, 1e-5),
        (100.0, 1.0, 1, 1e-5),
        (1.0, 0.1, 10**9, 1e-5),  # a grid beyond any memory
        (1.0, 1e-12, 10, 1e-5),  # below the accountant's own error
        (1.0, 0.01, 1000, 1e-15),  # delta lost in rounding
        (1.0, 0.0, 10, 1e-5),
        (1.0, 0.1, 0, 1e-5),
        (math.inf, 0.1, 10, 1e-5),
    ],
)
def test_prv_has_no_figure_where_its_numbers_fail(
    multiplier: float, rate: float, steps: int, delta: float
) -> None:
    assert prv_epsilon(multiplier, rate, steps, delta) is None


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-2, 1e3), st.floats(0, 1), st.integers(0, 1000), st.floats(1e-12, 1e-2))
def test_prv_never_crashes_nor_exceeds_rdp(
    multiplier: float, rate: float, steps: int, delta: float
) -> None:
    epsilon = prv_epsilon(multiplier, rate, steps, delta)
    assert epsilon is None or 0 <= epsilon <= rdp.spent_epsilon(multiplier, rate, steps, delta)
