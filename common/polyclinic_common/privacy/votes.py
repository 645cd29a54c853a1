r"""A hospital's yes or no by randomised response, and what many of them say together.

The truth is told with probability :math:`p = e^\epsilon/(1+e^\epsilon)`, its opposite otherwise;
whoever abstains tosses a fair coin. Any two of these three laws differ by a factor of at most
:math:`e^\epsilon`, so a vote is pure epsilon-DP whatever it was computed from (Warner, Randomized
response, JASA 60 (1965)). With n votes, k of them yes, the unbiased estimate of those in favour is
:math:`(k - n(1-p))/(2p-1)`; an abstention counts one half.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

_WORDS = 2**64
_SLACK = 2.0**-50  # relative, towards less truth: larger than the error of expit in float64


def randomised(truth: bool | None, epsilon: float, word: int) -> bool:
    """Return what is said.

    Parameters
    ----------
    truth : bool or None
        Yes, no, or an abstention.
    epsilon : float
        What the vote costs.
    word : int
        A uniform random number below 2^64, used for nothing else.
    """
    if truth is None:
        return word < _WORDS // 2
    return truth is (word < math.floor(float(expit(epsilon)) * (1.0 - _SLACK) * _WORDS))


def estimated_in_favour(yes: int, votes: int, epsilon: float) -> float:
    """Return the unbiased estimate of how many voters are in favour."""
    truth = float(expit(epsilon))
    return (yes - votes * (1.0 - truth)) / (2.0 * truth - 1.0)


def is_accepted(yes: int, votes: int, epsilon: float, quorum: float) -> bool:
    """Say whether the estimated share of voters in favour reaches the quorum."""
    return votes > 0 and estimated_in_favour(yes, votes, epsilon) >= quorum * votes


def chance_of_acceptance(in_favour: int, votes: int, epsilon: float, quorum: float) -> float:
    """Return how likely a quorum is found if so many of the voters are in favour, none abstains."""
    truth, against = float(expit(epsilon)), votes - in_favour
    law = np.convolve(_binomial(in_favour, truth), _binomial(against, 1.0 - truth))
    decided = [is_accepted(yes, votes, epsilon, quorum) for yes in range(votes + 1)]
    return float(law @ np.asarray(decided, dtype=np.float64))


def _binomial(trials: int, chance: float) -> NDArray[np.float64]:
    """Return the binomial law, shape (trials + 1,); scipy.stats would take a second to import."""
    return np.array(
        [
            math.comb(trials, hits) * chance**hits * (1.0 - chance) ** (trials - hits)
            for hits in range(trials + 1)
        ]
    )
