"""How well predictions rank patients, with an interval: AUC, C-index, and the same for numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.interval import Reading, Z

Floats = NDArray[np.float64]
AT_ONCE = 512


def concordance(score: Floats, time: Floats, event: Floats) -> Reading | None:
    r"""Return the share of comparable pairs that are ranked rightly, ties by half; None of none.

    A pair is comparable where one patient has the event while the other is still followed (Harrell
    et al., Evaluating the yield of medical tests (1982)); for yes and no with all at one time this
    is the AUC. The 95 % interval is the jackknife's over patients (Efron and Stein, The jackknife
    estimate of variance (1981)).

    Parameters
    ----------
    score : array of shape (n,)
        The higher, the earlier the event.
    time, event : array of shape (n,)
        End of follow-up, and whether it was the event.
    """
    n = len(score)
    right, pairs = np.zeros(n), np.zeros(n)
    for start in range(0, n, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        first, later = time[rows, None], time[None, :]
        known = (event[rows, None] == 1.0) & (
            (later > first) | ((later == first) & (event[None, :] == 0.0))
        )
        ahead = np.sign(score[rows, None] - score[None, :]) / 2.0 + 0.5
        won = np.where(known, ahead, 0.0)
        right[rows] += won.sum(axis=1)
        pairs[rows] += known.sum(axis=1)
        right += won.sum(axis=0)
        pairs += known.sum(axis=0)
    total, good = pairs.sum() / 2.0, right.sum() / 2.0
    left = total - pairs
    if n < 3 or (left <= 0.0).any():
        return None
    without = (good - right) / left
    half = Z * float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))
    value = float(good / total)
    return Reading(value, max(0.0, value - half), min(1.0, value + half))
