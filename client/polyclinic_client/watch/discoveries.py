"""Tests of single columns, and which of many are discoveries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
MOST_PAIRS = 1_000_000
"""Pairs of values up to which the Kolmogorov-Smirnov test counts paths exactly."""


def yekutieli(p: Floats, rate: float) -> Bools:
    r"""Return which hypotheses are rejected at a false-discovery rate, whatever their dependence.

    The k smallest p-values are rejected for the largest k with
    :math:`p_{(k)} \le k\,q / (m \sum_{i \le m} 1/i)`: Benjamini and Yekutieli, The control of the
    false discovery rate in multiple testing under dependency (2001), theorem 1.3. Columns of one
    patient depend on each other in ways that nobody knows, so that the sum is needed.

    Parameters
    ----------
    p : array of shape (m,)
        P-values.
    rate : float
        The rate q.
    """
    m = len(p)
    if m == 0:
        return np.zeros(0, dtype=np.bool_)
    ranks = np.arange(1, m + 1)
    order = np.argsort(p, kind="stable")
    good = np.flatnonzero(p[order] <= ranks * rate / (m * np.sum(1.0 / ranks)))
    rejected = np.zeros(m, dtype=np.bool_)
    if good.size:
        rejected[order[: good[-1] + 1]] = True
    return rejected


def distance(before: Floats, now: Floats) -> tuple[float, float]:
    """Return the largest distance of two empirical distributions, and its p-value.

    Two-sample test of Kolmogorov and Smirnov; exact for few values, and too large where values tie.
    """
    from scipy.stats import ks_2samp  # noqa: PLC0415

    if not before.size or not now.size:
        return 0.0, 1.0
    exact = before.size * now.size <= MOST_PAIRS
    found = ks_2samp(before, now, method="exact" if exact else "asymp")
    return float(found.statistic), float(min(found.pvalue, 1.0))


def shares(before: Bools, now: Bools) -> float:
    """Return the p-value of Fisher's exact test that a share is the same in both."""
    from scipy.stats import fisher_exact  # noqa: PLC0415

    counts = np.array([[each.sum(), (~each).sum()] for each in (before, now)], dtype=np.int64)
    if not before.size or not now.size or not counts[:, 0].any():
        return 1.0
    return float(fisher_exact(counts).pvalue)


def levels(before: NDArray[np.object_], now: NDArray[np.object_]) -> tuple[str, float, float]:
    """Return the word whose share has changed most clearly, by how much, and the p-value of any.

    Fisher's exact test of every word against all others, the smallest p-value times the number of
    words (Bonferroni): valid for rare words, where chi-square is not.
    """
    words = sorted(set(before) | set(now))
    if len(words) < 2 or not before.size or not now.size:
        return "", 0.0, 1.0
    p, word = min((shares(before == each, now == each), each) for each in words)
    change = float(np.mean(now == word) - np.mean(before == word))
    return str(word), change, min(1.0, p * len(words))
