r"""Arithmetic in which the result for a row is a function of that row alone, by construction.

Library products and sums over a batch round differently by a row's place, by the number of rows
and by the machine; library exponentials differ between whole vectors and what is left over. So
everything here is made of operations that IEEE 754 rounds in one way only (add, subtract, multiply,
divide, square root, rounding to whole numbers, scaling by powers of two), applied element by
element and one at a time, so that nothing is fused; and every sum within a row runs in an order
that its width alone decides. ``docs/privacy.md`` says why that matters.

The approximations of exp and log are those of FDLIBM 5.3 (``e_exp.c`` and ``e_log.c``, 1993-2004),
which are within one unit in the last place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]

ROWS_AT_ONCE, PRODUCTS_AT_ONCE = 1 << 20, 1 << 16  # numbers held at a time; no result depends on it
LARGEST_POWER, SMALLEST_POWER = 709.0, -745.0
LARGEST_LOGIT = 40.0  # beyond, a probability is within 2^-57 of 0 or 1
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
_LOG2_E = float.fromhex("0x1.71547652b82fep0")
_EXP = tuple(
    float.fromhex(digits)
    for digits in (
        "0x1.555555555553ep-3",
        "-0x1.6c16c16bebd93p-9",
        "0x1.1566aaf25de2cp-14",
        "-0x1.bbd41c5d26bf1p-20",
        "0x1.6376972bea4d0p-25",
    )
)
_LOG = tuple(
    float.fromhex(digits)
    for digits in (
        "0x1.5555555555593p-1",
        "0x1.999999997fa04p-2",
        "0x1.2492494229359p-2",
        "0x1.c71c51d8e78afp-3",
        "0x1.7466496cb03dep-3",
        "0x1.39a09d078c69fp-3",
        "0x1.2f112df3e5244p-3",
    )
)


def row_sums(rows: Floats) -> Floats:
    """Return the sum of every row, shape (n,), for rows of shape (n, m); zeros where m is 0."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows))
    return _tree_sum(np.array(rows.T, order="C"))


def row_norms(rows: Floats) -> Floats:
    """Return the Euclidean norm of every row, shape (n,); infinite where a square overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(row_sums(rows * rows)))


def weighted_sums(rows: Floats, weights: Floats) -> Floats:
    """Return every row's sums with several sets of weights: ``rows @ weights.T``, row by row.

    Parameters
    ----------
    rows : array of shape (n, m)
        One row a patient.
    weights : array of shape (k, m)
        One set of weights a sum.

    Returns
    -------
    array of shape (n, k)
    """
    count, width = rows.shape
    found = np.zeros((len(weights), count))
    if width == 0:
        return found.T
    height = max(1, ROWS_AT_ONCE // width)
    for first in range(0, count, height):
        columns = np.array(rows[first : first + height].T, order="C")
        some = max(1, PRODUCTS_AT_ONCE // columns.size)
        for start in range(0, len(weights), some):
            products = weights[start : start + some].T[:, :, None] * columns[:, None, :]
            found[start : start + some, first : first + height] = _tree_sum(products)
    return found.T


def exp(values: Floats) -> Floats:
    """Return e to these powers, clamped to [-745, 709] first; NaN stays NaN."""
    scale, rest = _reduced(np.clip(values, SMALLEST_POWER, LARGEST_POWER))
    rest += 1.0
    return np.asarray(np.ldexp(rest, scale))


def expit(values: Floats) -> Floats:
    """Return the logistic function, ``1 / (1 + exp(-values))``, of values clamped to [-40, 40]."""
    found = exp(np.clip(-values, -LARGEST_LOGIT, LARGEST_LOGIT))
    found += 1.0
    return np.divide(1.0, found, out=found)


def tanh(values: Floats) -> Floats:
    """Return the hyperbolic tangent, ``e / (e + 2)`` with ``e = exp(2 values) - 1``."""
    scale, rest = _reduced(np.clip(2.0 * values, -80.0, 80.0))
    power = np.ldexp(1.0, scale)
    less_one = np.ldexp(rest, scale) + (power - 1.0)
    return np.asarray(less_one / (less_one + 2.0))


def log(values: Floats) -> Floats:
    """Return natural logarithms: -inf of 0, NaN of what is negative or NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction, exponent = np.frexp(values)
        small = fraction < np.sqrt(0.5)
        rest = np.where(small, 2.0 * fraction, fraction) - 1.0
        power = (exponent - small).astype(np.float64)
        ratio = rest / (2.0 + rest)
        square = ratio * ratio
        half = 0.5 * rest * rest
        tail = ratio * (half + square * _polynomial(_LOG, square)) + power * _LN2_LOW
        found = power * _LN2_HIGH - ((half - tail) - rest)
    special = np.where(values == 0.0, -np.inf, np.where(values == np.inf, np.inf, np.nan))
    return np.where((values > 0.0) & (values < np.inf), found, special)


def logit(shares: Floats) -> Floats:
    """Return the log odds of shares in [0, 1]."""
    with np.errstate(divide="ignore"):
        return log(shares / (1.0 - shares))


def _tree_sum(parts: Floats) -> Floats:
    """Return the sum over the first axis, at least one long; what is given is used up.

    The last half is added to the first until one is left.
    """
    left = len(parts)
    while left > 1:
        half = left // 2
        parts[:half] += parts[left - half : left]
        left -= half
    return np.asarray(parts[0])


def _reduced(values: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Return k and ``exp(r) - 1``, where ``values = k log 2 + r`` and ``|r| <= log(2) / 2``."""
    power = np.rint(values * _LOG2_E)
    rest = values - power * _LN2_HIGH
    rest -= power * _LN2_LOW
    square = rest * rest
    even = rest - square * _polynomial(_EXP, square)
    found = rest * even
    found /= even - 2.0
    scale = np.nan_to_num(power, nan=0.0).astype(np.int32)
    return scale, np.subtract(rest, found, out=found)


def _polynomial(coefficients: tuple[float, ...], values: Floats) -> Floats:
    """Return the polynomial with these coefficients, constant first, by Horner's rule."""
    found = np.full_like(values, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found *= values
        found += coefficient
    return found
