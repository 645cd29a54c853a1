"""What of the discrete Gaussian sampler can be shown exactly, by giving it its words.

Every uniform draw gives each value the same number of words, the powers of 1/e are right to the
last bit, what is kept has the weight of the Gaussian, and nothing overflows.
"""

from __future__ import annotations

import ast
import inspect
from decimal import Decimal, localcontext
from math import isqrt

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polyclinic_common.errors import PrivacyError
from polyclinic_common.privacy import discrete_gaussian as module
from polyclinic_common.privacy.discrete_gaussian import (
    LARGEST_VARIANCE,
    discrete_gaussian,
    reachable_variance,
)
from polyclinic_common.privacy.streams import Stream, system_stream

Integers = NDArray[np.int64]
LARGE = (2**24, 2**26 + 1, 3**20, LARGEST_VARIANCE)
LAST_WORD = 2**64 - 1
variances = st.one_of(st.integers(1, 300), st.integers(1, LARGEST_VARIANCE))
keys = st.binary(min_size=32, max_size=32)


class Script(Stream):
    """A stream that gives the words it was told, and no more."""

    def __init__(self, *words: int):
        self.left = list(words)

    def words(self, count: int) -> NDArray[np.uint64]:
        given, self.left = self.left[:count], self.left[count:]
        assert len(given) == count
        return np.array(given, dtype=np.uint64)


@given(st.integers(1, 2**25), st.data())
@settings(deadline=None)
def test_every_uniform_integer_has_the_same_number_of_words(
    bound: int, data: st.DataObject
) -> None:
    share = LAST_WORD // bound
    value = data.draw(st.integers(0, bound - 1))
    for word in (value * share, value * share + share - 1):
        assert module._below(Script(word), bound, 1) == [value]
    if share * bound <= LAST_WORD:
        redrawn = Script(share * bound, LAST_WORD, value * share)
        assert module._below(redrawn, bound, 1) == [value]
        assert not redrawn.left


@given(st.integers(1, 2**49), st.integers(1, 20), st.data())
@settings(deadline=None)
def test_a_bernoulli_draw_is_true_for_its_exact_share_of_the_words(
    denominator: int, k: int, data: st.DataObject
) -> None:
    numerator = data.draw(st.integers(0, denominator - 1))
    share = LAST_WORD // (denominator * k)

    def draw(*words: int) -> bool:
        return bool(
            module._bernoulli(Script(*words), np.array([numerator], np.uint64), denominator * k)
        )

    assert not draw(share * numerator)
    assert not numerator or draw(share * numerator - 1)
    if share * denominator * k <= LAST_WORD:
        assert not draw(share * denominator * k, share * numerator)


@pytest.mark.parametrize("bits", [64, 128, 700])
def test_powers_of_one_over_e_are_right_to_the_last_bit(bits: int) -> None:
    with localcontext() as context:
        context.prec = 400
        for k in range(1, 60):
            assert module._power(k, bits) == int(Decimal(2) ** bits * Decimal(-k).exp())


@pytest.mark.parametrize("k", range(1, 43))
def test_a_word_that_does_not_decide_is_lengthened(k: int) -> None:
    first = module._power(k, 64)
    second = module._power(k, 128) & LAST_WORD
    third = module._power(k, 192) & LAST_WORD
    cases = {
        (first - 1,): k,
        (first + 1,): k - 1,
        (first, second - 1): k,
        (first, second + 1): k - 1,
        (first, second, third - 1): k,
        (first, second, third + 1): k - 1,
    }
    for words, v in cases.items():
        stream = Script(*words)
        assert module._geometric(stream, 1) == [v]
        assert not stream.left


def test_a_word_of_zero_is_lengthened_as_far_as_it_takes() -> None:
    third = module._power(128, 192)
    assert module._geometric(Script(0, 0, third - 1), 1) == [128]
    assert module._geometric(Script(0, 0, third + 1), 1) == [127]


undecided = {module._power(k, 64) for k in range(1, 46)}
decided = st.integers(0, LAST_WORD).filter(lambda word: word not in undecided)


@given(st.lists(decided, min_size=1, max_size=20))
@settings(deadline=None)
def test_many_words_are_worth_what_each_is_alone(words: list[int]) -> None:
    alone = [module._long_geometric(Script(), word) for word in words]
    assert list(module._geometric(Script(*words), len(words))) == alone


def kept_when_all_are(stream: Stream, count: int, variance: int) -> tuple[Integers, list[int]]:
    """Return all candidates, and the numerators of the x with which exp(-x) keeps them."""
    numerators: list[int] = []

    def keep(_: Stream, numerator: Integers, denominator: int) -> NDArray[np.bool_]:
        assert denominator == 2 * variance
        numerators.extend(int(each) for each in numerator)
        return np.ones(len(numerator), dtype=np.bool_)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_bernoulli_exp", keep)
        return module._kept(stream, count, variance), numerators


@given(variances, keys)
@settings(deadline=None)
def test_candidate_times_keeping_has_the_weight_of_the_gaussian(variance: int, key: bytes) -> None:
    """e^-v e^-x is e^(-candidate^2 / 2 variance), but for one factor, in whole numbers."""
    candidates, numerators = kept_when_all_are(Stream(key), 4, variance)
    assert min(numerators) >= 0
    assume(len(candidates) == 4)  # no negative zero among them
    values = [int(each) for each in candidates]
    scale = isqrt(variance) + 1
    factors = {
        numerator + 2 * variance * (abs(value) // scale) - value * value
        for value, numerator in zip(values, numerators, strict=True)
    }
    assert factors == {max(0, 2 * variance - scale**2)}


def words_for(variance: int, index: int, v_words: list[int]) -> list[int]:
    """The words of one candidate: `index` is 2 u, or 2 u + 1 with the negative sign."""
    return [index * (LAST_WORD // (2 * isqrt(variance) + 2)), *v_words]


@given(variances)
@settings(deadline=None)
def test_zero_comes_with_one_sign_only(variance: int) -> None:
    """The last word makes the first Bernoulli draw fail, which keeps the candidate."""
    bound = LAST_WORD // (2 * variance) * 2 * variance
    for index, kept in ((0, [0]), (1, [])):
        words = words_for(variance, index, [LAST_WORD])
        assert list(module._kept(Script(*words, bound - 1), 1, variance)) == kept


@pytest.mark.parametrize("variance", LARGE)
def test_samples_beyond_six_deviations_come_out(variance: int) -> None:
    """v = 7 and u = 0: x is near 18, e^-18 comes with a word of 2, then one draw fails."""
    words = words_for(variance, 1, [module._power(7, 64) - 1])
    bound = LAST_WORD // (2 * variance) * 2 * variance
    kept = module._kept(Script(*words, 2, bound - 1), 1, variance)
    assert list(kept) == [-7 * (isqrt(variance) + 1)]


@example(LARGEST_VARIANCE, 2**24)
@given(st.integers(1, LARGEST_VARIANCE), st.integers(0, 2**24))
@settings(deadline=None, max_examples=10)
def test_nothing_overflows_where_one_word_would(variance: int, u: int) -> None:
    scale = isqrt(variance) + 1
    u %= scale
    words = words_for(variance, 2 * u + 1, [0, 0, 0, 0, 10])  # v is 219: (219 t)^2 > 2^63
    candidates, numerators = kept_when_all_are(Script(*words), 1, variance)
    value = -int(candidates[0])
    v, rest = divmod(value, scale)
    assert rest == u
    assert v == 219
    assert numerators == [value**2 - 2 * variance * v + max(0, 2 * variance - scale**2)]
    refused = module._kept(Script(*words, LAST_WORD), 1, variance)
    assert refused.dtype == np.int64
    assert not len(refused)


@given(variances, keys)
@settings(deadline=None, max_examples=50)
def test_long_and_short_integers_agree(variance: int, key: bytes) -> None:
    short = discrete_gaussian(Stream(key), 200, variance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ONE_WORD", 0)
        assert np.array_equal(discrete_gaussian(Stream(key), 200, variance), short)


def test_largest_numbers_of_the_largest_variance_fit_one_word() -> None:
    """The bound that the module's text gives."""
    scale = isqrt(LARGEST_VARIANCE) + 1
    largest = module._ONE_WORD * scale - 1
    assert largest**2 + 2 * LARGEST_VARIANCE < 2**63
    assert 2 * LARGEST_VARIANCE * module._ONE_WORD < 2**63
    assert 2 * LARGEST_VARIANCE * 2**15 <= LAST_WORD + 1


def test_no_floating_point_takes_part() -> None:
    """Neither a float, nor a true division, nor a function that gives floats, in the source."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        assert not isinstance(node, ast.Div)
        name = getattr(node, "attr", getattr(node, "id", ""))
        assert name not in {"float", "float64", "exp", "log", "sqrt", "divide", "random"}


@given(variances, keys, st.integers(0, 100))
@settings(deadline=None)
def test_samples_are_what_was_asked_for(variance: int, key: bytes, size: int) -> None:
    """Beyond 30 deviations and 30: probability below 1e-100."""
    drawn = discrete_gaussian(Stream(key), size, variance)
    assert drawn.dtype == np.int64
    assert drawn.shape == (size,)
    assert np.abs(drawn).max(initial=0) < 30 * (isqrt(variance) + 1)
    assert np.array_equal(drawn, discrete_gaussian(Stream(key), size, variance))


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 20_000])
@pytest.mark.parametrize("variance", [1, 2**26])
def test_every_size_comes_out(size: int, variance: int) -> None:
    assert discrete_gaussian(system_stream(), size, variance).shape == (size,)


@given(st.integers(1, LARGEST_VARIANCE))
@settings(deadline=None)
def test_every_variance_in_range_can_be_reached(variance: int) -> None:
    assert reachable_variance(variance) == variance


@pytest.mark.parametrize("variance", [-1, 0, LARGEST_VARIANCE + 1, 2**200])
def test_a_variance_out_of_range_is_refused(variance: int) -> None:
    for refused in (reachable_variance, lambda v: discrete_gaussian(system_stream(), 1, v)):
        with pytest.raises(PrivacyError):
            refused(variance)
