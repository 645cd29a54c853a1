"""A plan spends what was asked for and no more; its grid is fine, its sums fit in 63 bits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.discrete_gaussian import LARGEST_VARIANCE, reachable_variance
from polyclinic_common.privacy.sum_plan import (
    MOST_PATIENTS,
    SumPath,
    SumPlan,
    check_headroom,
    plan_sum,
    sensitivity_of,
)

DELTA = 1e-5
PATHS = st.sampled_from(("rows", "products"))


def plan(
    epsilon: float = 1.0,
    *,
    delta: float = DELTA,
    rounds: int = 60,
    length: int = 31,
    clip: float = 0.25,
    shares: int = 2,
    path: SumPath = "rows",
    most_patients: int = 100_000,
) -> SumPlan:
    return plan_sum(
        epsilon, delta, rounds, length, clip, shares, path=path, most_patients=most_patients
    )


@pytest.mark.parametrize(
    ("fewest", "colluding", "fallback"), [(3, 1, 1.47), (4, 1, 1.83), (8, 2, 2.71), (19, 2, 4.92)]
)
@pytest.mark.parametrize("length", [31, 5000])
def test_the_fallback_at_headline_1_is_that_of_the_table(
    fewest: int, colluding: int, fallback: float, length: int
) -> None:
    made = plan(1.0, shares=fewest - colluding, length=length)
    assert round(made.headline_epsilon(DELTA), 6) == 1.0
    assert made.fallback_epsilon(DELTA) == pytest.approx(fallback, abs=0.005)


@pytest.mark.parametrize(
    ("present", "shares", "excess"), [(4, 3, 1.15), (3, 2, 1.22), (6, 4, 1.22), (21, 17, 1.11)]
)
def test_noise_beyond_a_trusted_servers(present: int, shares: int, excess: float) -> None:
    assert plan(shares=shares).noise_excess(present) == pytest.approx(excess, abs=0.006)


@settings(deadline=None)
@given(
    st.floats(0.05, 20),
    st.floats(1e-9, 1e-4),
    st.integers(1, 200),
    st.integers(1, 5000),
    st.floats(1e-3, 1e3),
    st.integers(1, 50),
    PATHS,
    st.integers(1, MOST_PATIENTS),
)
def test_a_plan_spends_what_was_asked_for_and_no_more(
    epsilon: float,
    delta: float,
    rounds: int,
    length: int,
    clip: float,
    shares: int,
    path: SumPath,
    most_patients: int,
) -> None:
    made = plan_sum(
        epsilon, delta, rounds, length, clip, shares, path=path, most_patients=most_patients
    )
    assert epsilon * (1 - 1e-3) < made.headline_epsilon(delta) <= epsilon
    assert made.fallback_epsilon(delta) >= made.headline_epsilon(delta)
    assert 2**24 <= made.variance <= LARGEST_VARIANCE
    assert made.variance == reachable_variance(made.variance)
    assert made.sensitivity == sensitivity_of(path, clip, made.grid_exponent, length, most_patients)
    assert made.grid * math.sqrt(length) <= clip / 16
    # As much noise as continuous noise of the same promise would need, or a little more.
    needed = gdp.noise_multiplier(epsilon, delta, rounds) * made.sensitivity * made.grid
    noise = math.sqrt(shares) * made.deviation
    assert needed < noise
    assert made.multiplier == pytest.approx(noise / clip)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.1, 8), st.integers(1, 200), st.integers(1, 2000), st.integers(1, 20), PATHS)
def test_more_privacy_more_rounds_and_a_longer_vector_never_take_less_noise(
    epsilon: float, rounds: int, length: int, shares: int, path: SumPath
) -> None:
    def multiplier(epsilon: float, rounds: int, length: int) -> float:
        made = plan(epsilon, rounds=rounds, length=length, shares=shares, path=path)
        return made.multiplier * made.clip / made.sensitivity / made.grid

    base = multiplier(epsilon, rounds, length) * (1 - 1e-6)
    assert multiplier(epsilon * 0.99, rounds, length) > base
    assert multiplier(epsilon, rounds + 1, length) > base
    assert multiplier(epsilon, rounds, 2 * length) >= base


def test_the_reference_path_is_charged_the_clip_exactly() -> None:
    for clip in (0.25, 0.7, 1 / 3, 20.0):
        for exponent in (-20, -11, -3):
            sensitivity = sensitivity_of("rows", clip, exponent, 31, 1000)
            assert sensitivity * 2.0**exponent == clip  # a power of two loses no bit


def test_the_matrix_product_path_is_charged_rounding_and_floating_point() -> None:
    grid, patients = 2.0**-10, 2**20
    charged = sensitivity_of("products", 0.7, -10, 49, patients) * grid
    assert charged == pytest.approx(0.7 + 7 * grid + 2.0**40 * 2.0**-52 * 0.7, rel=1e-15)
    assert sensitivity_of("products", 0.7, -10, 49, 2**24) * grid == pytest.approx(
        0.7 * (1 + 1 / 16) + 7 * grid, rel=1e-15
    )


def test_the_grid_is_fine_where_the_sampler_reaches() -> None:
    made = plan(length=5000)
    assert made.grid * math.sqrt(5000) <= made.clip / 256 < 2 * made.grid * math.sqrt(5000)
    strict = plan(0.01, length=20_000, shares=1)  # a noise of 2^24 grid units is not enough
    assert strict.variance > LARGEST_VARIANCE / 4
    assert strict.clip / 256 < strict.grid * math.sqrt(20_000) <= strict.clip / 16


def test_a_share_has_at_least_4096_grid_units() -> None:
    made = plan(100.0, rounds=1, length=1, shares=40)
    assert 2**24 <= made.variance < 2**26


def test_rounding_the_variance_never_lowers_the_noise() -> None:
    for wanted in (2**24, 2**24 + 1, 2**26 + 1, 10**9 + 7, 10**12 + 39):
        assert reachable_variance(wanted) >= wanted
    for shares in range(1, 30):
        made = plan(shares=shares)
        mu = gdp.mu_of(1.0, DELTA) / math.sqrt(60)
        assert shares * made.variance - 1 / 12 >= (made.sensitivity / mu) ** 2


def test_a_sum_that_could_leave_63_bits_is_refused() -> None:
    check_headroom(2.0**38, 2**24)
    for sensitivity, variance in [(2.0**39, 2**24), (2.0**38, 2**94), (math.nan, 2**24)]:
        with pytest.raises(PrivacyError) as caught:
            check_headroom(sensitivity, variance)
        assert caught.value.code == Code.PRIVACY_PLAN
    # A plan checks it: with 2^60 shares little noise suffices for an enormous sensitivity.
    with pytest.raises(PrivacyError, match="63 bits"):
        plan(200.0, shares=2**60, rounds=1, length=1)


def test_rounding_errors_never_cost_a_coarser_grid() -> None:
    for step in range(300):  # deviations of 2^20 and more, whose squares are spaced most closely
        made = plan(0.1 + step / 1e4, length=5000, shares=2)
        assert made.variance > 2**40
        assert made.clip / 256 < 2 * made.grid * math.sqrt(5000)
        assert made.grid * math.sqrt(5000) <= made.clip / 256


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e-4, 301.0, math.inf, math.nan])
def test_an_impossible_epsilon_is_refused(epsilon: float) -> None:
    with pytest.raises(PrivacyError) as caught:
        plan(epsilon)
    assert caught.value.code == Code.PRIVACY_PARAMETER


def test_other_nonsense_is_refused() -> None:
    for change in (
        {"rounds": 0},
        {"length": 0},
        {"shares": 0},
        {"clip": 0.0},
        {"clip": math.nan},
        {"clip": math.inf},
        {"most_patients": 0},
        {"most_patients": 2**24 + 1},
        {"delta": 0.0},
        {"delta": 1.00001},
        {"delta": math.nan},
    ):
        with pytest.raises(PrivacyError):
            plan(**change)


def test_a_vector_too_long_for_its_promise_is_refused() -> None:
    with pytest.raises(PrivacyError) as caught:
        plan(0.01, length=10**9, shares=1)
    assert caught.value.code == Code.PRIVACY_PLAN
