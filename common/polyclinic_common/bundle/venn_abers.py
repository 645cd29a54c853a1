r"""Venn-Abers: two probabilities for a patient, fitted to other patients of one hospital.

The isotonic regression of outcomes on scores is fitted twice, with the patient added once as a yes
and once as a no; what it says at the patient's score is :math:`p_1` and :math:`p_0`. One of the
two is the one with the true answer, and that one is perfectly calibrated: among patients who get
it, its share has a yes. No assumption but exchangeability is made (Vovk, Petej and Fedorova,
Large-scale probabilistic predictors with and without guarantees of validity, NIPS 2015,
section 3; inductive form: section 4).

How far apart the two lie says how much one answer would move the fit. It is no interval that holds
the true probability at a stated level, and is far narrower than one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DECIMALS = 3  # of a score: a map of scores has at most a thousand steps, and few of a patient each
Step = tuple[float, float]


@dataclass(frozen=True)
class Steps:
    """Both fits as steps over the score; no patient stands in them.

    Attributes
    ----------
    lower : tuple of (score, probability)
        `p0` from that score on; 0 below the first.
    upper : tuple of (score, probability)
        `p1` up to and including that score; 1 above the last.
    """

    lower: tuple[Step, ...]
    upper: tuple[Step, ...]

    def at(self, scores: Floats) -> tuple[Floats, Floats]:
        """Return `p0` and `p1` of every score, each of shape (n,)."""
        scores = np.round(scores, DECIMALS)
        below, above = np.array(self.lower).T, np.array(self.upper).T
        p0 = np.append(0.0, below[1])[np.searchsorted(below[0], scores, side="right")]
        p1 = np.append(above[1], 1.0)[np.searchsorted(above[0], scores, side="left")]
        return p0, p1


def fit(scores: Floats, having: Floats) -> Steps:
    """Return both fits to n patients.

    Parameters
    ----------
    scores : array of shape (n,)
        Predicted probabilities; they count to a thousandth.
    having : array of shape (n,)
        Answers, 0 or 1.
    """
    values, place = np.unique(np.round(scores, DECIMALS), return_inverse=True)
    values, place = np.unique(np.round(scores, DECIMALS), return_inverse=True)
    patients = np.bincount(place).astype(np.float64)
    yeses = np.bincount(place, having).astype(np.float64)
    p0 = [_fitted_at(index, patients, yeses, 0.0) for index in range(len(values))]
    p1 = [_fitted_at(index, patients, yeses, 1.0) for index in range(len(values))]
    first = np.append(True, np.diff(p0) != 0.0)
    last = np.append(np.diff(p1) != 0.0, True)
    return Steps(
        tuple((float(values[i]), float(p0[i])) for i in np.flatnonzero(first)),
        tuple((float(values[i]), float(p1[i])) for i in np.flatnonzero(last)),
    )


def _fitted_at(index: int, patients: Floats, yeses: Floats, answer: float) -> float:
    """Return the isotonic regression at one score, with a patient of this answer added there.

    Between two scores `p1` is that at the higher one and `p0` that at the lower one (algorithms 3
    and 4 of the paper), so that none has to be fitted there.
    """
    from scipy.optimize import isotonic_regression  # noqa: PLC0415

    weights, sums = patients.copy(), yeses.copy()
    weights[index] += 1.0
    sums[index] += answer
    return float(isotonic_regression(sums / weights, weights=weights).x[index])
