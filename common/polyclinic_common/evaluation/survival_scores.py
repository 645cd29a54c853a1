r"""Exact survival scores of predictions, with censoring weighted away (IPCW).

Of the patients who are seen to have the event by a time t, or to be without it then, each stands
for those whose follow-up ended before: patient i weighs :math:`w_i = 1/G(\min(T_i, t)^-)`, with G
the Kaplan-Meier estimate of censoring in the same patients. These are the weights of Graf,
Schmoor, Sauerbrei and Schumacher, Assessment and comparison of prognostic classification schemes
for survival data (1999), with events before censoring where times tie: who is censored at t is
without the event at t. A time until which nobody is followed has no score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.observed import Observed, Rows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Status:
    """What is seen of n patients at a time t.

    Attributes
    ----------
    cases, free : array of shape (n,), bool
        With the event by t, and without it at t; neither where follow-up ended before.
    weights : array of shape (n,)
        How many patients each of them stands for; they add up to n.
    """

    cases: Rows
    free: Rows
    weights: Floats


def statuses(observed: Observed, times: tuple[float, ...]) -> list[Status | None]:
    """Return what is seen at every time; None where nobody is followed until then."""
    time, happened = observed.value, observed.event > 0.5
    moments, seen = _still_seen(time, happened)

    def weight(when: Floats) -> Floats:
        return np.asarray(1.0 / seen[np.searchsorted(moments, when)])

    found: list[Status | None] = []
    for t in times:
        cases = happened & (time <= t)
        free = (time > t) | ((time == t) & ~happened)
        lost = not free.any() and not (happened[time == time.max()].all() and time.max() <= t)
        weights = np.zeros(len(time))
        weights[cases | free] = weight(np.minimum(time, t)[cases | free])
        found.append(None if lost else Status(cases, free, weights))
    return found


def _still_seen(time: Floats, happened: Rows) -> tuple[Floats, Floats]:
    """Return all times, and the Kaplan-Meier estimate of being uncensored just before each.

    Kaplan and Meier, Nonparametric estimation from incomplete observations (1958), with the roles
    of event and censoring exchanged. The last entry is the one just after the last time.
    """
    moments, ended = np.unique(time, return_inverse=True)
    events = np.bincount(ended, happened, len(moments))
    censored = np.bincount(ended, ~happened, len(moments))
    at_risk = np.cumsum((events + censored)[::-1])[::-1] - events
    stay = 1.0 - censored / np.maximum(at_risk, 1.0)
    return moments, np.append(1.0, np.cumprod(stay))


def observed_survival(status: Status | None) -> float | None:
    """Return the share of patients without the event: the Kaplan-Meier estimate, as IPCW gives it.

    Satten and Datta, The Kaplan-Meier estimator as an inverse-probability-of-censoring weighted
    average (2001).
    """
    if status is None:
        return None
    return float(status.weights[status.free].sum() / len(status.weights))
