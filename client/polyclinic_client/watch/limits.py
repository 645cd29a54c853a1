r"""Limits of the sums, from the model's own predictions.

If the model is right, the outcomes of these very patients are draws of its predicted risks; for
numbers, a residual on the scale of the model is as likely above as below. So both sums are walked
over 9,999 such draws, and a limit is an order statistic of them: with the real outcomes they are
10,000 exchangeable draws, so that the probability of being among the k largest is at most k/10,000,
for any number of patients, risks or events (Barnard 1963; Dwass, Modified randomization tests for
nonparametric hypotheses (1957)). For survival the patients that are still followed in an interval
are taken as they are, though who they are depends on earlier events: close, not exact. It leaves
the variance what it is for a martingale (Andersen et al., Statistical Models Based on Counting
Processes (1993), section II.5).

An alarm that lasts over several looks is one: the limit of a look bounds alarms that the look
before did not give, and twice that bounds a look in alarm, whatever was before. Draws are seeded
and run in the order of rows. While the chances of an earlier look are the first ones of this look,
its limit is what it was then. Outcomes that became known out of order, patients of survival who
were followed on, a refit, or errors measured by their own size move it: of earlier looks a guess is
left then, and what is proven is the bound on a look in alarm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.watch.chances import Chances
from polyclinic_client.watch.cusum import SHIFT, cost

Floats = NDArray[np.float64]
DRAWS = 9_999
SEED = 2000
ROUNDING = 1e-9
"""What sums of the same outcomes may differ by, added up in another order."""


@dataclass(frozen=True)
class Limit:
    """Limits after the first `chances` chances.

    Attributes
    ----------
    chances : int
        How many.
    more, less : float
        An alarm of calibration, where the sum of that name is larger.
    tilt : float
        An alarm of the spread, where `tilt_of` is smaller.
    """

    chances: int
    more: float
    less: float
    tilt: float


def limits(
    chances: Chances, stops: Sequence[int], calibration: float, tilt: float
) -> tuple[Limit, ...]:
    """Return the limits of every look.

    Parameters
    ----------
    stops : sequence of int
        How many chances there were at every look, increasing, the present one last.
    calibration : float
        Probability of an alarm that the look before did not give; half that of a look in alarm.
    tilt : float
        Probability of a look in alarm.
    """
    found, before = [], np.zeros(DRAWS, dtype=np.bool_)
    for stop, more, less, tilts in _drawn(chances, stops):
        heights = _height(more, before, calibration), _height(less, before, calibration)
        found.append(Limit(stop, *heights, -_exceeded_by(-tilts, tilt) - ROUNDING))
        before = (more > heights[0]) | (less > heights[1])
    return tuple(found)


def _height(sums: Floats, before: NDArray[np.bool_], share: float) -> float:
    """Return the limit of one of two sums: half of the share is for either."""
    new = np.where(before, -np.inf, sums)
    return max(_exceeded_by(new, share / 2.0), _exceeded_by(sums, share)) + ROUNDING


def tilt_of(chances: Chances) -> float:
    r"""Return how outcomes go with the scores beyond what is predicted: negative where less.

    The score statistic of a slope beside the level, :math:`\sum_i (x_i - \bar x)(y_i - p_i)` with
    the mean weighted by the variances: Cox, Two further applications of a model for binary
    regression (1958).
    """
    return float(np.sum((chances.score - _middle(chances)) * chances.surprise))


def _middle(chances: Chances) -> float:
    total = float(chances.variance.sum())
    return float((chances.variance * chances.score).sum()) / total if total else 0.0


def _exceeded_by(values: Floats, share: float) -> float:
    """Return the largest value such that at most this share of draws and truth lies above."""
    above = int(share * (len(values) + 1) * (1.0 + 1e-12)) - 1
    return float(np.partition(values, len(values) - 1 - above)[len(values) - 1 - above])


def _drawn(chances: Chances, stops: Sequence[int]) -> Iterator[tuple[int, Floats, Floats, Floats]]:
    """Yield, at every stop, both sums and the tilt of every draw."""
    rng = np.random.default_rng(SEED)
    more, less = np.zeros(DRAWS), np.zeros(DRAWS)
    along, total = np.zeros(DRAWS), np.zeros(DRAWS)
    costs = cost(chances, SHIFT), cost(chances, -SHIFT)
    for row in range(stops[-1]):
        seen = _draw(chances, rng, row)
        more += SHIFT * seen - costs[0][row]
        less -= SHIFT * seen + costs[1][row]
        np.maximum(more, 0.0, out=more)
        np.maximum(less, 0.0, out=less)
        surprise = seen if chances.risk is None else seen - chances.risk[row]
        along += chances.score[row] * surprise
        total += surprise
        if row + 1 in stops:
            middle = _middle(chances.first(row + 1))
            yield row + 1, more.copy(), less.copy(), along - middle * total


def _draw(chances: Chances, rng: np.random.Generator, row: int) -> Floats:
    """Return draws of what is seen of one chance, shape (draws,)."""
    uniform = rng.random(DRAWS)
    if chances.risk is None:
        return np.asarray(np.where(uniform < 0.5, 1.0, -1.0) * chances.seen[row])
    return np.asarray(uniform < chances.risk[row], dtype=np.float64)
