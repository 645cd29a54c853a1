r"""Grid, noise and cost of the unsampled sums of a run, from public numbers only.

Every hospital adds discrete Gaussian noise of standard deviation s (grid units) to a sum of
integers; h of these shares count in the headline. With T rounds, a sensitivity of Delta grid units
and the mu of the requested (epsilon, delta), a round may cost mu / sqrt(T), hence

.. math:: h s^2 - \tfrac1{12} = V = T \Delta^2 / \mu^2

(:mod:`polyclinic_common.privacy.charges`; Dong, Roth and Su 2022, theorem 1 and corollary 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.privacy import account, gdp
from polyclinic_common.privacy.charges import LEAST_VARIANCE, GaussianSum
from polyclinic_common.privacy.discrete_gaussian import LARGEST_VARIANCE, reachable_variance

SumPath = Literal["rows", "products"]
MOST_PATIENTS = 2**24  # headroom is proven for so many in one sum
_MOST_SITES = 2**10
_DEVIATIONS = 2**6
_FINE, _COARSEST = 256, 16  # clip / (grid * sqrt(length)): at least, and where s is out of reach
_ROUNDING = 1e-9  # relative, towards more noise: larger than the error of any float here


@dataclass(frozen=True)
class SumPlan:
    """The sums of a run: one vector a round, with the same noise in each.

    Attributes
    ----------
    grid_exponent : int
        The grid unit is 2 ** grid_exponent, in the unit of the clip.
    clip : float
        Bound on one patient's vector, Euclidean norm.
    sensitivity : float
        Bound on what one patient moves the integer vector, Euclidean norm, grid units.
    variance : int
        Variance of one hospital's noise, grid units squared.
    shares : int
        Honest shares h that count in the headline; 1 in mode local.
    length : int
        Entries of the vector.
    rounds : int
        Rounds.
    """

    grid_exponent: int
    clip: float
    sensitivity: float
    variance: int
    shares: int
    length: int
    rounds: int

    @property
    def grid(self) -> float:
        """Grid unit, in the unit of the clip."""
        return math.ldexp(1.0, self.grid_exponent)

    @property
    def deviation(self) -> float:
        """Standard deviation of one hospital's noise, in the unit of the clip."""
        return math.sqrt(self.variance) * self.grid

    @property
    def multiplier(self) -> float:
        """Standard deviation of the noise of h hospitals together, in clips."""
        return math.sqrt(self.shares) * self.deviation / self.clip

    @property
    def headline(self) -> GaussianSum:
        """Cost of a round if h shares stay secret."""
        return self._charge(self.shares)

    @property
    def fallback(self) -> GaussianSum:
        """Cost of a round if only this hospital's share stays secret."""
        return self._charge(1)

    def headline_epsilon(self, delta: float) -> float:
        """Return the epsilon of all rounds at headline."""
        return account.spent_epsilon({self.headline: self.rounds}, delta)

    def fallback_epsilon(self, delta: float) -> float:
        """Return the epsilon of all rounds at fallback."""
        return account.spent_epsilon({self.fallback: self.rounds}, delta)

    def noise_excess(self, participants: int) -> float:
        """Return the noise of a sum of so many hospitals, relative to a trusted server's."""
        return math.sqrt(participants / self.shares)

    def _charge(self, shares: int) -> GaussianSum:
        return GaussianSum(
            sensitivity=self.sensitivity,
            variance=self.variance,
            shares=shares,
            length=self.length,
        )


def plan_sum(
    epsilon: float,
    delta: float,
    rounds: int,
    length: int,
    clip: float,
    shares: int,
    *,
    path: SumPath,
    most_patients: int,
) -> SumPlan:
    """Return the plan whose rounds together cost `epsilon` at headline, or a little less.

    Parameters
    ----------
    epsilon, delta : float
        The promise for the whole run; epsilon from 2e-4 (discreteness takes 1e-4) to 300.
    rounds, length : int
        Vectors released and entries of each.
    clip : float
        Bound on one patient's vector, Euclidean norm.
    shares : int
        Honest shares h of a secure sum; 1 in mode local.
    path : {"rows", "products"}
        How the integers are made: see :func:`sensitivity_of`.
    most_patients : int
        Public bound on the patients of one hospital, up to 2^24.

    Raises
    ------
    PrivacyError
        If no grid gives this promise within the sampler and 64 bits, or a number is senseless.
    """
    _check_public_numbers(epsilon, rounds, length, clip, shares, most_patients)
    room = epsilon - account.ALLOWANCE
    mu = gdp.mu_of(room, delta * math.exp(-account.ALLOWANCE)) / math.sqrt(rounds)
    first, last = _exponents(length, clip, shares, mu)
    for exponent in range(first, last + 1):
        sensitivity = sensitivity_of(path, clip, exponent, length, most_patients)
        wanted = math.ceil(((sensitivity / mu) ** 2 + 1 / 12) / shares * (1 + _ROUNDING))
        if wanted <= LARGEST_VARIANCE:
            variance = reachable_variance(max(wanted, LEAST_VARIANCE))
            check_headroom(sensitivity, variance)
            plan = SumPlan(exponent, clip, sensitivity, variance, shares, length, rounds)
            if plan.headline_epsilon(delta) <= epsilon:
                return plan
    raise _impossible(f"No grid gives epsilon {epsilon} to vectors of {length} entries.")


def sensitivity_of(
    path: SumPath, clip: float, grid_exponent: int, length: int, most_patients: int
) -> float:
    r"""Return by how much one patient moves the integer vector, Euclidean norm, grid units.

    - ``rows``: each patient is clipped to :math:`C - \gamma\sqrt d/2` and rounded, which moves a
      vector by at most :math:`\gamma\sqrt d/2`, and the integer norm is checked against
      :math:`C/\gamma`: exactly :math:`C/\gamma`.
    - ``products``: the sum is computed in float64 and rounded once. Two roundings differ by
      :math:`\gamma\sqrt d` more than the sums, and floating point by :math:`n^2 2^{-52} C`, n the
      patients: :math:`(C + \gamma\sqrt d + n^2 2^{-52} C)/\gamma`.
    """
    exact = math.ldexp(clip, -grid_exponent)
    if path == "rows":
        return exact
    return exact + math.sqrt(length) + exact * most_patients**2 * 2.0**-52


def check_headroom(sensitivity: float, variance: int) -> None:
    """Refuse sums that could leave 63 bits: 2^24 patients and 2^10 hospitals' noise, 64 deviations.

    Raises
    ------
    PrivacyError
        If 2^24 * sensitivity + 2^10 * 2^6 * s is not below 2^63.
    """
    noise = _MOST_SITES * _DEVIATIONS * math.sqrt(variance)
    if not MOST_PATIENTS * sensitivity + noise < 2.0**63:
        raise _impossible("A sum over 2^24 patients could leave 63 bits.")


def _exponents(length: int, clip: float, shares: int, mu: float) -> tuple[int, int]:
    """Return the exponents of the finest grid tried, which is the best, and of the coarsest."""
    widest = clip / (mu * math.sqrt(shares * LEAST_VARIANCE))  # where s is 2^12
    norm = math.sqrt(length)
    finest = _floor_log2(min(clip / (_FINE * norm), widest))
    return finest, _floor_log2(min(clip / (_COARSEST * norm), widest))


def _floor_log2(value: float) -> int:
    return math.frexp(value)[1] - 1


def _check_public_numbers(
    epsilon: float, rounds: int, length: int, clip: float, shares: int, most_patients: int
) -> None:
    if not 2 * account.ALLOWANCE <= epsilon <= account.MOST_EPSILON:
        raise PrivacyError(
            Code.PRIVACY_PARAMETER,
            f"Epsilon {epsilon} gives no noise level.",
            f"Give an epsilon from {2 * account.ALLOWANCE} to {account.MOST_EPSILON:g}.",
        )
    if not (0 < clip < math.inf and min(rounds, length, shares) >= 1):
        raise PrivacyError(
            Code.PRIVACY_PARAMETER,
            f"{rounds} rounds, {length} entries, clip {clip}, {shares} shares give no noise level.",
            "Give a positive, finite clip and numbers from 1.",
        )
    if not 1 <= most_patients <= MOST_PATIENTS:
        raise _impossible(f"Sums are proven for 1 to 2^24 patients, not for {most_patients}.")


def _impossible(what: str) -> PrivacyError:
    return PrivacyError(
        Code.PRIVACY_PLAN,
        what,
        "Make the vector shorter, raise epsilon or ask for fewer rounds.",
    )
