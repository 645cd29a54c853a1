r"""Exact samples of the discrete Gaussian, by integer arithmetic alone.

The method is that of Canonne, Kamath and Steinke, The discrete Gaussian for differential privacy
(NeurIPS 2020): algorithm 3 draws candidates from a discrete Laplace distribution (algorithm 2) and
keeps each with a probability exp(-rational), decided by Bernoulli draws of rational probability
(algorithm 1). The rejections of algorithms 2 and 3 are made one here, which takes fewer steps and
much smaller numbers (denominator 2 s^2 in place of 2 s^2 t^2).

Write :math:`s^2` for the variance and t = floor(s) + 1. Every integer is :math:`\pm(u + tv)` for
exactly one :math:`0 \le u < t`, :math:`v \ge 0` and sign, but for zero, which both signs give: the
negative one is refused. Candidates draw u and sign uniformly, v with probability proportional to
:math:`e^{-v}`, and are kept with probability :math:`e^{-x}`,

.. math:: x = \frac{(u + tv)^2 - 2 s^2 v + c}{2 s^2}, \qquad c = \max(0, 2 s^2 - t^2),

so that what is kept has probability proportional to
:math:`e^{-v - x} \propto e^{-(u + tv)^2 / 2 s^2}`. No x is negative, for :math:`2 s^2 v - t^2 v^2`
falls from v = 1 on (t > s): c is its maximum. Nearly half of the candidates are kept.

Every probability is compared with uniform integers, redrawn or lengthened where one word does not
decide; no floating point takes part. The time taken tells something of the sample: replies leave
on a public tick (``docs/privacy.md``).

Room in 64 bits: :math:`s \le 2^{24}`, hence :math:`t \le 2^{24} + 1`. While :math:`v < 2^7`,
:math:`u + tv < 2^7 t`, its square with c is below :math:`2^{62.1}`, and :math:`2 s^2 v < 2^{56}`.
Larger v, of probability :math:`e^{-128}` a candidate, are worked out with Python's integers.
"""

from __future__ import annotations

from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.privacy.streams import Stream

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

LARGEST_VARIANCE = 2**48
_ONE_WORD = 2**7  # v from here on takes Python's integers
_BLOCK = 2**13  # samples at a time: the work stays in the processor's cache
_WORD = 2**64


def discrete_gaussian(stream: Stream, size: int, variance: int) -> Integers:
    r"""Return independent samples with probabilities proportional to exp(-x^2 / 2 variance).

    Their own variance is below `variance` by less than one part in a million.

    Parameters
    ----------
    stream : Stream
        Where the random words come from.
    size : int
        How many samples.
    variance : int
        The parameter :math:`s^2`, from 1 to 2^48.

    Returns
    -------
    NDArray[np.int64]
        Shape (size,).

    Raises
    ------
    PrivacyError
        If the variance is out of range.
    """
    _check(variance)
    samples = np.empty(size, dtype=np.int64)
    filled = 0
    while filled < size:
        wanted = min(_BLOCK, size - filled)
        kept = _kept(stream, 43 * wanted // 20 + 6 * isqrt(wanted) + 8, variance)[:wanted]
        samples[filled : filled + len(kept)] = kept
        filled += len(kept)
    return samples


def reachable_variance(wanted: int) -> int:
    """Return the smallest variance of at least `wanted` that the sampler offers: `wanted` itself.

    Raises
    ------
    PrivacyError
        If it is not from 1 to 2^48.
    """
    _check(wanted)
    return wanted


def _kept(stream: Stream, candidates: int, variance: int) -> Integers:
    """Return the candidates that are kept, in the order in which they were drawn."""
    scale = isqrt(variance) + 1
    drawn = _below(stream, 2 * scale, candidates)
    u, negative = drawn >> 1, (drawn & 1).astype(np.bool_)
    v = _geometric(stream, candidates)
    if int(v.max()) >= _ONE_WORD:
        u, v = u.astype(object), v.astype(object)
    magnitude = u + scale * v
    lift = max(0, 2 * variance - scale**2)
    kept = _bernoulli_exp(stream, magnitude**2 - 2 * variance * v + lift, 2 * variance)
    kept &= (magnitude > 0) | ~negative
    return np.where(negative, -magnitude, magnitude)[kept].astype(np.int64)


def _bernoulli_exp(stream: Stream, numerator: Integers, denominator: int) -> NDArray[np.bool_]:
    """Return True with probability exp(-numerator / denominator), at each place on its own.

    Whole powers of 1/e by the geometric distribution; what remains by algorithm 1: with K the
    first of 1, 2, ... at which a Bernoulli draw of probability gamma / K fails, K is odd with
    probability exp(-gamma).
    """
    whole = numerator // denominator
    part = (numerator - whole * denominator).astype(np.uint64)
    result = np.ones(len(part), dtype=np.bool_)
    powers = np.flatnonzero(whole)
    result[powers] = _geometric(stream, len(powers)) >= whole[powers]
    going = np.flatnonzero(result)
    k = 0
    while len(going):
        k += 1
        going = going[_bernoulli(stream, part[going], denominator * k)]
        result[going] = k % 2 == 0
    return result


def _bernoulli(stream: Stream, numerator: Words, denominator: int) -> NDArray[np.bool_]:
    """Return True with probability numerator / denominator, at each place on its own.

    Words uniform below share * denominator, the largest such multiple in 64 bits, are compared
    with share * numerator. Denominators are at most 2^49 k, k the step of algorithm 1: there is
    room to k = 2^15, which is passed with a probability below 1 / (2^15)!.
    """
    share = (_WORD - 1) // denominator
    return _words_below(stream, share * denominator, len(numerator)) < numerator * np.uint64(share)


def _below(stream: Stream, bound: int, size: int) -> Integers:
    """Return uniform integers from 0 to bound - 1."""
    share = (_WORD - 1) // bound
    words = _words_below(stream, share * bound, size)
    return (words // np.uint64(share)).astype(np.int64)


def _words_below(stream: Stream, bound: int, size: int) -> Words:
    """Return uniform words below `bound`: those that are not are drawn again."""
    words = stream.words(size)
    while len(high := np.flatnonzero(words >= np.uint64(bound))):
        words[high] = stream.words(len(high))
    return words


def _geometric(stream: Stream, size: int) -> Integers:
    """Return integers v >= 0 with probabilities (1 - 1/e) e^-v.

    v counts the powers 1/e, 1/e^2, ... above a uniform binary fraction u. The first word of u
    decides, unless it equals that of a power; then further words are drawn until one differs.
    """
    powers = _first_words()
    words = stream.words(size)
    below = np.searchsorted(powers, words, side="right")
    v = len(powers) - below
    for tie in np.flatnonzero(powers[below - 1] == words):
        v[tie] = _long_geometric(stream, int(words[tie]))
    return v


def _long_geometric(stream: Stream, word: int) -> int:
    """Return v for a u that starts with `word`, drawing as many further words as it takes."""
    u, bits, v = word, 64, 0
    while True:
        power = _power(v + 1, bits)
        if u == power:
            u, bits = u << 64 | int(stream.words(1)[0]), bits + 64
        elif u > power:
            return v
        else:
            v += 1


@cache
def _first_words() -> Words:
    """Return the first words of e^-k, ascending, from the first that is zero (k = 45) to k = 1."""
    return np.array([_power(k, 64) for k in range(45, 0, -1)], dtype=np.uint64)


def _power(k: int, bits: int) -> int:
    """Return floor(2^bits e^-k), exactly.

    n! / e lies between D - 1 and D for even n, with the integer D = n! (1/0! - 1/1! + ... + 1/n!),
    whose next term but one is D n (n - 1) - (n - 1).
    """
    n, factorial, derangements, low, high = 0, 1, 1, 0, 1
    while low != high:
        n += 2
        factorial *= n * (n - 1)
        derangements = derangements * n * (n - 1) - n + 1
        low, high = (((d**k) << bits) // factorial**k for d in (derangements - 1, derangements))
    return low


def _check(variance: int) -> None:
    if not 1 <= variance <= LARGEST_VARIANCE:
        raise PrivacyError(
            Code.PRIVACY_PARAMETER,
            f"No exact noise of variance {variance} (grid units squared) can be drawn.",
            "Choose a coarser grid or more budget: from 1 to 2^48 can be drawn.",
        )
