r"""From counted guesses to a lower bound on mu and epsilon, with an exact confidence.

A mechanism that is mu-GDP lets nobody tell two neighbouring cohorts apart better than a unit
normal from one shifted by mu: whatever the guess, :math:`\Phi^{-1}(TPR) - \Phi^{-1}(FPR) \le \mu`
(Dong, Roth and Su, Gaussian differential privacy, 2022, equation 6; used for audits by Nasr et al.,
Tight auditing of differentially private machine learning, USENIX Security 2023, section 4.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta, t

REPETITIONS = 100
CONFIDENCE = 0.95
"""All bounds that so many audits print hold together with this probability."""


@dataclass(frozen=True)
class Guesses:
    """How often "is in" was guessed.

    Attributes
    ----------
    hits, members : int
        Right guesses, of all observations with the canary in.
    alarms, strangers : int
        Wrong guesses, of all observations with the canary out.
    """

    hits: int
    members: int
    alarms: int
    strangers: int

    @staticmethod
    def at(scores: NDArray[np.float64], member: NDArray[np.bool_], threshold: float) -> Guesses:
        """Guess "is in" above a threshold fixed in advance; the last axis is the canary."""
        above = scores > threshold
        rounds = int(np.prod(scores.shape[:-1]))
        return Guesses(
            int(above[..., member].sum()),
            rounds * int(member.sum()),
            int(above[..., ~member].sum()),
            rounds * int((~member).sum()),
        )

    def mu_at_least(self, error: float) -> float:
        """Return a bound that lies above the true mu with probability `error` at most.

        Both rates are bounded by Clopper and Pearson (1934), each with half of `error`: exact for
        independent observations, whatever the distribution of the scores.
        """
        tpr, fpr = self.rates(error)
        return max(0.0, float(ndtri(tpr) - ndtri(fpr)))

    def epsilon_at_least(self, error: float) -> float:
        """Return a bound that lies above a true pure epsilon with probability `error` at most.

        Whatever the guess, TPR is at most e^epsilon FPR, and 1 - FPR at most e^epsilon (1 - TPR).
        """
        tpr, fpr = self.rates(error)
        if not 0.0 < tpr < 1.0 or not 0.0 < fpr < 1.0:
            return 0.0
        return max(0.0, math.log(tpr / fpr), math.log((1.0 - fpr) / (1.0 - tpr)))

    def rates(self, error: float) -> tuple[float, float]:
        """Return a lower bound on the true and an upper bound on the false alarm rate."""
        hits, alarms = self.hits, self.alarms
        tpr = float(beta.ppf(error / 2, hits, self.members - hits + 1)) if hits else 0.0
        fpr = float(beta.isf(error / 2, alarms + 1, self.strangers - alarms))
        return tpr, 1.0 if alarms == self.strangers else fpr


def error_of_one(bounds: int) -> float:
    """Return the error of one of `bounds` bounds of one audit.

    An audit is repeated, on every installation and in every release. The five per cent are shared
    by all bounds of a hundred audits, so that a lower bound above a true claim is no daily event.
    """
    return (1.0 - CONFIDENCE) / (REPETITIONS * bounds)


def chance_of_correlation(noise: NDArray[np.float64]) -> float:
    """Return how likely independent normal rows are to be as correlated as some two rows here.

    The largest correlation of two rows, by the exact distribution of one (Student's t with n - 2
    degrees of freedom), times the number of pairs.

    Parameters
    ----------
    noise : array of shape (rows, n)
        What should be independent normal noise of mean 0.
    """
    rows, length = noise.shape
    if rows < 2 or length < 4:
        return 1.0
    with np.errstate(invalid="ignore"):  # a row of equal numbers is no noise
        correlation = np.abs(np.nan_to_num(np.corrcoef(noise), nan=1.0))
    worst = min(float(correlation[np.triu_indices(rows, 1)].max()), 1.0)
    statistic = math.inf if worst == 1.0 else worst * math.sqrt((length - 2) / (1 - worst**2))
    chance: float = rows * (rows - 1) * float(t.sf(statistic, length - 2))
    return min(1.0, chance)
