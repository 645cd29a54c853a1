r"""Split conformal intervals for outcomes that are numbers.

n patients that the model was not trained on each give a score, the distance of their outcome from
the prediction. Of a further patient, exchangeable with them, the score is at most the r-th
smallest of theirs, :math:`r = \lceil (n + 1)(1 - \alpha) \rceil`, with a probability of at least
:math:`1 - \alpha`, and of at most :math:`1 - \alpha + 1/(n + 1)` where no two scores are equal:
whatever the model, and whatever the law of the data (Vovk, Gammerman and Shafer, Algorithmic
Learning in a Random World (2005), proposition 4.1; Lei, G'Sell, Rinaldo, Tibshirani and Wasserman,
Distribution-free predictive inference for regression, J. Am. Stat. Assoc. 113 (2018), theorem 2).
The promise is about all such patients together, not about each group of them.

Distances are taken on the scale that the model is trained on: the public range mapped to [-1, 1]
after the study's transform. So an interval is as wide at every prediction on that scale, and widens
with the prediction in the outcome's own unit under a square root or logarithm.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import to_unit
from polyclinic_common.data.encoding import inverse_transform, transform
from polyclinic_common.study.outcomes import Continuous

Floats = NDArray[np.float64]


def rank(patients: int, alpha: float) -> int:
    """Return which of the sorted scores bounds an interval, from 1; it may be n + 1: there is none.

    In whole numbers: a rounding of ``(n + 1) * (1 - alpha)`` upwards would take the next score.
    """
    return math.ceil((patients + 1) * (1 - Fraction(str(alpha))))


def fewest_patients(alpha: float) -> int:
    """Return how many patients there must be for `rank` to be the number of one of them."""
    return math.ceil(1 / Fraction(str(alpha)) - 1)


def half_width(outcome: Continuous, predicted: Floats, observed: Floats, alpha: float) -> float:
    """Return half the width of the intervals, on the scale of the model.

    Parameters
    ----------
    predicted, observed : arrays of shape (n,)
        In the unit of the outcome; none is NaN.
    alpha : float
        Share of patients that may lie outside.

    Raises
    ------
    ValueError
        If there are fewer than `fewest_patients`.
    """
    scores = np.abs(on_scale(outcome, observed) - on_scale(outcome, predicted))
    place = rank(len(scores), alpha)
    if place > len(scores):
        raise ValueError("too few patients for this share")
    return float(np.sort(scores)[place - 1])


def bounds(outcome: Continuous, predicted: Floats, half: float) -> tuple[Floats, Floats]:
    """Return both ends of every patient's interval, each of shape (n,), within the public range.

    Nothing is lost at the range: an outcome outside it is not known (see `read_outcome`).
    """
    middle = on_scale(outcome, predicted)
    least, greatest = outcome.range
    low = inverse_transform(outcome, middle - half)
    high = inverse_transform(outcome, middle + half)
    # The map back may round a bound of the range by its last bit, and lose the patients on it.
    return (
        np.where(middle - half <= -1.0, least, low),
        np.where(middle + half >= 1.0, greatest, high),
    )


def on_scale(outcome: Continuous, values: Floats) -> Floats:
    """Return outcomes on the scale of the model, [-1, 1]; NaN stays NaN."""
    least, greatest = transform(outcome, np.array(outcome.range))
    inside = np.clip(values, *outcome.range)
    return to_unit(transform(outcome, inside), (float(least), float(greatest)))
