r"""How many of a group of patients had the outcome, with an interval for the share.

- *Yes or no*: Wilson's interval (Probable inference, the law of succession, and statistical
  inference, J. Am. Stat. Assoc. 22 (1927)), which stays sensible for shares near 0 and 1.
- *Survival*: Kaplan and Meier's estimate with Greenwood's variance V, and Wilson's interval for
  the share S of so many patients as would give that variance without censoring,
  :math:`S(1 - S)/V` (Rothman, Estimation of confidence limits for the cumulative probability of
  survival in life table analysis, J. Chronic Dis. 31 (1978)).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_GROUPS, LEAST_PATIENTS = 5, 20
LEAST_FOLLOWED = 5  # patients of a group who are seen up to a time, for its survival to be shown


@dataclass(frozen=True)
class Share:
    """An observed share with its interval."""

    value: float
    low: float
    high: float


def group_edges(values: Floats) -> tuple[float, ...]:
    """Return edges that cut patients into as equal groups as ties allow; none for few patients.

    At most five groups, none of fewer than twenty patients. No edge is a patient's value.
    """
    ordered = np.sort(values)
    count = min(MOST_GROUPS, len(ordered) // LEAST_PATIENTS)
    edges: list[float] = []
    before = 0
    for number in range(1, count):
        last = ordered[len(ordered) * number // count - 1]
        below = int(np.searchsorted(ordered, last, side="right"))  # equal ones stay together
        if below - before >= LEAST_PATIENTS and len(ordered) - below >= LEAST_PATIENTS:
            edges.append(_between(float(last), float(ordered[below])))
            before = below
    return tuple(edges)


def _between(low: float, high: float) -> float:
    """Return a number between two, with as few decimals as that takes."""
    middle = (low + high) / 2.0
    rounded = (round(middle, decimals) for decimals in range(1, 16))
    return next((edge for edge in rounded if low < edge < high), middle)


def groups_of(edges: tuple[float, ...], values: Floats) -> NDArray[np.int64]:
    """Return the number of every patient's group, from 0, shape (n,)."""
    return np.searchsorted(edges, values, side="left").astype(np.int64)


def wilson(share: float, patients: float, alpha: float) -> Share:
    """Return Wilson's interval at the level 1 - alpha for a share of so many patients."""
    z = NormalDist().inv_cdf(1.0 - alpha / 2.0)
    weight = z * z / patients
    middle = (share + weight / 2.0) / (1.0 + weight)
    half = float(np.sqrt(share * (1.0 - share) * weight + weight**2 / 4.0)) / (1.0 + weight)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Share(share, min(low, share), max(high, share))  # rounding at 0 and 1


def survival(
    time: Floats, event: Floats, grid: tuple[float, ...], alpha: float
) -> tuple[Share | None, ...]:
    """Return the observed survival of a group at every time of the grid.

    None from where on fewer than five patients were followed, unless all had the event. An event
    at a time of the grid has happened by then; who is censored at the time of an event was at risk.

    Parameters
    ----------
    time, event : arrays of shape (n,)
        Follow-up, and 1 where it ends with the event.
    grid : tuple of float
        Increasing times.
    """
    found: list[Share | None] = []
    size = float(len(time))
    for end in grid:
        share, variance = kaplan_meier(time, event, end)
        followed = int((time >= end).sum())
        if 0.0 < share < 1.0:
            size = share * (1.0 - share) / variance
        elif share == 1.0:
            size = float(followed)  # nobody stands for those who left
        shown = followed >= LEAST_FOLLOWED or share == 0.0
        found.append(wilson(share, size, alpha) if shown else None)
    return tuple(found)


def kaplan_meier(time: Floats, event: Floats, end: float) -> tuple[float, float]:
    """Return the survival at a time, and its variance by Greenwood's formula.

    Kaplan and Meier, Nonparametric estimation from incomplete observations, J. Am. Stat. Assoc. 53
    (1958), equations 2b and 2f. The variance is 0 where all or none survive.
    """
    share, relative = 1.0, 0.0
    for when in np.unique(time[(event == 1.0) & (time <= end)]):
        at_risk = int((time >= when).sum())
        events = int(((time == when) & (event == 1.0)).sum())
        if events == at_risk:
            return 0.0, 0.0
        share *= 1.0 - events / at_risk
        relative += events / (at_risk * (at_risk - events))
    return share, share**2 * relative
