"""What an account has cost agrees with dp-accounting, and a cap is never passed."""

from __future__ import annotations

import math
import random
from collections import Counter

import dp_accounting
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.privacy import account, gdp, rdp
from polyclinic_common.privacy.charges import Charge, GaussianSum, SampledSteps, Vote

DELTA = 1e-5
VARIANCE = 2**26
SUMS = st.builds(
    GaussianSum,
    sensitivity=st.floats(10, 5000),
    variance=st.integers(2**24, 2**40),
    shares=st.integers(1, 20),
    length=st.integers(1, 1000),
)
VOTES = st.builds(Vote, epsilon=st.floats(0.001, 1))
STEPS = st.builds(
    SampledSteps,
    rate=st.sampled_from((0.01, 0.1, 1.0)),
    multiplier=st.sampled_from((1.0, 4.0, 20.0)),
    steps=st.integers(1, 200),
)
PLAIN = st.dictionaries(SUMS | VOTES, st.integers(1, 20), max_size=5)
MIXED = st.dictionaries(SUMS | VOTES | STEPS, st.integers(1, 20), max_size=5)
DELTAS = st.floats(1e-9, 1e-4)


def a_sum(mu: float, shares: int = 1, length: int = 31) -> GaussianSum:
    """Return the charge of a sum with this mu."""
    return GaussianSum(
        sensitivity=mu * math.sqrt(shares * VARIANCE - 1 / 12),
        variance=VARIANCE,
        shares=shares,
        length=length,
    )


@pytest.mark.parametrize("mus", [[0.3], [1.0], [3.0], [0.03] * 60, [0.1, 0.1, 0.7]])
def test_unsampled_releases_cost_what_dp_accounting_says(mus: list[float]) -> None:
    theirs = PLDAccountant()
    for mu, count in Counter(mus).items():
        theirs.compose(GaussianDpEvent(1 / mu), count)
    mine = account.spent_epsilon(Counter(a_sum(mu, 3) for mu in mus), DELTA)
    assert mine == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-3, abs=2 * account.ALLOWANCE)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(MIXED, DELTAS)
def test_a_sampled_release_puts_the_whole_account_under_renyi_dp(
    charges: dict[Charge, int], delta: float
) -> None:
    steps = SampledSteps(rate=0.05, multiplier=2.0, steps=30)
    theirs = RdpAccountant(rdp.ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE)
    for charge, count in Counter(charges | {steps: 7}).items():
        if isinstance(charge, SampledSteps):
            event: dp_accounting.DpEvent = PoissonSampledDpEvent(
                charge.rate, GaussianDpEvent(charge.multiplier)
            )
            theirs.compose(event, charge.steps * count)
        else:
            theirs.compose(GaussianDpEvent(1 / charge.mu), count)
    mine = account.spent_epsilon(charges | {steps: 7}, delta)
    assert mine == pytest.approx(theirs.get_epsilon(delta), rel=1e-6)


def test_sums_are_charged_for_what_they_are_and_no_more() -> None:
    # Without the allowance the figure would be that of continuous noise.
    mine = account.spent_epsilon({a_sum(0.1): 60}, DELTA)
    continuous = gdp.epsilon_of(0.1 * math.sqrt(60), DELTA)
    assert continuous + account.ALLOWANCE < mine < continuous + 1.3 * account.ALLOWANCE


@settings(deadline=None)
@given(MIXED, SUMS | VOTES | STEPS, DELTAS)
def test_a_release_more_never_makes_an_account_cheaper(
    charges: dict[Charge, int], charge: Charge, delta: float
) -> None:
    more = Counter(charges)
    more[charge] += 1
    before, after = (account.spent_epsilon(each, delta) for each in (charges, more))
    if any(isinstance(each, SampledSteps) for each in charges) or not isinstance(
        charge, SampledSteps
    ):
        assert after >= before
    else:  # The other accounting takes over, which needs no allowance.
        assert after >= before - account.ALLOWANCE
    assert account.spent_epsilon(more, delta / 2) >= after


def test_every_argument_of_a_release_counts() -> None:
    base = SampledSteps(rate=0.1, multiplier=2.0, steps=50)
    cost = account.spent_epsilon({base: 2}, DELTA)
    for change in ({"rate": 0.11}, {"multiplier": 1.9}, {"steps": 51}):
        assert account.spent_epsilon({base.model_copy(update=change): 2}, DELTA) > cost
    one = a_sum(0.5, shares=3)
    cost = account.spent_epsilon({one: 2}, DELTA)
    for change in ({"sensitivity": 6000.0 * 2}, {"variance": VARIANCE - 9}, {"shares": 2}):
        assert account.spent_epsilon({one.model_copy(update=change): 2}, DELTA) > cost
    assert account.spent_epsilon({Vote(epsilon=0.6): 2}, DELTA) > account.spent_epsilon(
        {Vote(epsilon=0.5): 2}, DELTA
    )


@settings(deadline=None)
@given(st.lists(SUMS | VOTES, max_size=30), st.floats(0.1, 5), DELTAS)
def test_the_filter_is_never_passed(wishes: list[Charge], cap: float, delta: float) -> None:
    held: Counter[Charge] = Counter()
    for wish in wishes:
        if account.fits(held, wish, cap, delta):
            held[wish] += 1
    assert account.spent_epsilon(held, delta) <= cap
    # By Balle and Wang's formula at the cap itself, however the figure was found.
    mus = [charge.mu for charge in held.elements() if not isinstance(charge, SampledSteps)]
    assert gdp.delta_of(cap, gdp.compose(*mus)) <= delta


@settings(deadline=None, max_examples=50)
@given(MIXED, SUMS | VOTES | STEPS, st.floats(0.1, 5), DELTAS)
def test_what_fits_fits_and_one_more_does_not(
    charges: dict[Charge, int], charge: Charge, cap: float, delta: float
) -> None:
    count = account.how_many_fit(charges, charge, cap, delta)
    assume(count < 2**40)
    assert not account.fits(charges, charge, cap, delta, count + 1)
    if count:
        assert account.fits(charges, charge, cap, delta, count)


def test_a_planner_counts_rounds() -> None:
    one = a_sum(gdp.mu_of(1.0, DELTA) / math.sqrt(60.5))
    assert account.how_many_fit({}, one, 1.0, DELTA) == 60
    assert account.how_many_fit({one: 58}, one, 1.0, DELTA) == 2
    assert account.how_many_fit({one: 61}, one, 1.0, DELTA) == 0


def test_without_a_finite_cap_nothing_fits() -> None:
    for cap in (0.0, -1.0, math.nan, math.inf):
        assert not account.fits({}, a_sum(0.1), cap, DELTA)
        assert account.how_many_fit({}, Vote(epsilon=0.1), cap, DELTA) == 0


def test_more_discreteness_than_is_charged_is_no_guarantee() -> None:
    most = int(account.ALLOWANCE * VARIANCE**2 / 2 / 365)
    within, beyond = (a_sum(0.01, length=length) for length in (most - 100, most + 100))
    assert account.spent_epsilon({within: 1}, DELTA) < 1
    assert account.spent_epsilon({beyond: 1}, DELTA) == math.inf
    assert account.spent_epsilon({within: 2}, DELTA) == math.inf
    assert not account.fits({within: 1}, within, 100.0, DELTA)


def test_an_enormous_account_has_no_guarantee() -> None:
    for charge in (a_sum(1e6), a_sum(20.0), Vote(epsilon=500.0)):
        assert account.spent_epsilon({charge: 10**6}, DELTA) == math.inf
    steps = SampledSteps(rate=0.5, multiplier=1e-150, steps=10**9)
    assert account.spent_epsilon({steps: 10**9, a_sum(1.0): 1}, DELTA) == math.inf
    assert not account.fits({steps: 1}, a_sum(1.0), 1e9, DELTA)


def test_an_empty_account_has_cost_nothing() -> None:
    assert account.spent_epsilon({}, DELTA) == 0.0
    assert account.spent_epsilon({a_sum(1.0): 0}, DELTA) == 0.0


def test_the_order_of_releases_does_not_matter() -> None:
    charges: dict[Charge, int] = {a_sum(0.1 * k): k for k in range(1, 6)}
    again = dict(reversed(charges.items()))
    assert account.spent_epsilon(charges, DELTA) == pytest.approx(
        account.spent_epsilon(again, DELTA), rel=1e-12
    )


def test_nonsense_is_refused() -> None:
    steps = SampledSteps(rate=0.1, multiplier=1, steps=1)
    accounts: list[dict[Charge, int]] = [{}, {a_sum(1.0): 1}, {steps: 1}]
    for delta in (0.0, 1.0, 1.00001, -1e-5, math.nan):
        for charges in accounts:
            with pytest.raises(PrivacyError) as caught:
                account.spent_epsilon(charges, delta)
            assert caught.value.code == Code.PRIVACY_DELTA
    with pytest.raises(PrivacyError):
        account.spent_epsilon({a_sum(1.0): -1}, DELTA)


def test_a_patient_of_two_hospitals_has_twice_the_mu_of_a_sum() -> None:
    one = a_sum(gdp.mu_of(1.0, DELTA))
    assert account.two_hospitals_epsilon({one: 1}, DELTA) == pytest.approx(2.155, abs=0.001)
    steps = SampledSteps(rate=0.1, multiplier=2.0, steps=50)
    assert account.two_hospitals_epsilon({steps: 1}, DELTA) == account.spent_epsilon(
        {steps: 2}, DELTA
    )
    vote = Vote(epsilon=0.5)
    assert account.two_hospitals_epsilon({vote: 3}, DELTA) == pytest.approx(
        account.spent_epsilon({vote: 6}, DELTA), rel=1e-9
    )


def test_replacing_a_patient_costs_twice_the_mu_of_a_sum_and_nothing_more_for_a_vote() -> None:
    one, vote = a_sum(0.2), Vote(epsilon=0.5)
    assert account.replace_one_epsilon({one: 2}, DELTA) == pytest.approx(
        account.spent_epsilon({a_sum(0.4): 2}, DELTA), rel=1e-9
    )
    assert account.replace_one_epsilon({vote: 5}, DELTA) == account.spent_epsilon({vote: 5}, DELTA)


@pytest.mark.parametrize(("rate", "multiplier", "steps"), [(0.01, 1.0, 500), (0.2, 5.0, 60)])
def test_replacing_a_patient_of_sampled_steps_costs_no_less_than_the_loss_distribution_says(
    rate: float, multiplier: float, steps: int
) -> None:
    charge = SampledSteps(rate=rate, multiplier=multiplier, steps=steps)
    theirs = PLDAccountant(NeighboringRelation.REPLACE_ONE)
    theirs.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)), steps)
    mine = account.replace_one_epsilon({charge: 1}, DELTA)
    assert theirs.get_epsilon(DELTA) <= mine < 5 * account.spent_epsilon({charge: 1}, DELTA)


def test_unsampled_steps_replaced_cost_about_twice_the_mu() -> None:
    steps = SampledSteps(rate=1.0, multiplier=10.0, steps=4)
    exact = gdp.epsilon_of(2 * 0.1 * 2, DELTA)
    assert exact < account.replace_one_epsilon({steps: 1}, DELTA) < 1.2 * exact


@given(st.lists(st.integers(1, 2**20), min_size=2, max_size=6, unique=True), st.randoms())
def test_a_cap_made_of_the_same_charges_is_met_in_any_order(
    extra: list[int], order: random.Random
) -> None:
    charges = [
        GaussianSum(sensitivity=700.0, variance=2**24 + each, shares=8, length=20) for each in extra
    ]
    cap = account.spent_epsilon(Counter(charges), 1e-5)
    order.shuffle(charges)
    held: Counter[Charge] = Counter(charges[:-1])
    assert account.fits(held, charges[-1], cap, 1e-5)
