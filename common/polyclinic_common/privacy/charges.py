"""What a release costs: its mechanism and public numbers, never an epsilon and never data.

A ledger stores charges; :mod:`polyclinic_common.privacy.account` says what they cost together.
Adjacency: add or remove one patient of one hospital.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LEAST_VARIANCE = 2**24  # grid units squared: the share of a sum has a standard deviation >= 2^12

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Charge(BaseModel):
    """Immutable and hashable; nothing unknown, no NaN, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class GaussianSum(_Charge):
    r"""A vector of integers released with discrete Gaussian noise, one draw for each entry.

    Attributes
    ----------
    sensitivity : float
        Euclidean distance by which one patient moves the vector, at most; in grid units, with the
        slack of rounding.
    variance : int
        Variance of one hospital's noise, in grid units squared; at least 2^24.
    shares : int
        How many hospitals' noise counts: the honest shares h in the headline of a secure sum; 1 in
        its fallback and in mode local.
    length : int
        Entries of the vector.
    """

    kind: Literal["gaussian-sum"] = "gaussian-sum"
    sensitivity: Positive
    variance: Annotated[int, Field(ge=LEAST_VARIANCE)]
    shares: Count
    length: Count

    @property
    def ideal_variance(self) -> float:
        r"""Variance, in grid units squared, of the normal noise that rounds to this noise.

        A normal variable of variance V, rounded to integers, has variance V + 1/12 and is, up to
        :func:`polyclinic_common.privacy.account.discreteness`, the sum of `shares` discrete
        Gaussians of variance V + 1/12 in all: V = shares * variance - 1/12.
        """
        return self.shares * self.variance - 1 / 12

    @property
    def mu(self) -> float:
        r"""Gaussian DP of the release, :math:`\mu = \Delta / \sqrt{V}`.

        Dong, Roth and Su, Gaussian differential privacy, J. R. Stat. Soc. B 84 (2022), theorem 1:
        the release is a rounded, so post-processed, normal mechanism of variance V.
        """
        return self.sensitivity / math.sqrt(self.ideal_variance)

    def repeated(self, times: int) -> GaussianSum:
        """Return the charge of so many of these vectors released as one: squares of mu add up."""
        return self.model_copy(
            update={
                "sensitivity": self.sensitivity * math.sqrt(times),
                "length": self.length * times,
            }
        )


class SampledSteps(_Charge):
    """Steps on Poisson-sampled patients, each a clipped sum with Gaussian noise (mode local).

    Attributes
    ----------
    rate : float
        Probability of a patient to take part in a step, above 0 and up to 1.
    multiplier : float
        Standard deviation of the noise of a step, in clips.
    steps : int
        Number of steps.
    """

    kind: Literal["sampled-steps"] = "sampled-steps"
    rate: Annotated[float, Field(gt=0, le=1)]
    multiplier: Positive
    steps: Count


class Vote(_Charge):
    """A yes or no given by randomised response.

    Attributes
    ----------
    epsilon : float
        Pure epsilon: the truth is told with probability e^epsilon / (1 + e^epsilon).
    """

    kind: Literal["vote"] = "vote"
    epsilon: Annotated[float, Field(ge=1e-6)]

    @property
    def mu(self) -> float:
        r"""Gaussian DP of the vote, :math:`\mu = 2\Phi^{-1}(e^{\epsilon}/(1+e^{\epsilon}))`.

        The trade-off function of pure epsilon (Dong, Roth and Su, 2022, equation 5 and proposition
        3) is straight from (0, 1) to its fixed point at 1/(1+e^epsilon) and on to (1, 0). That of
        mu-GDP (equation 6) is convex with the same ends and fixed point Phi(-mu/2), so with this
        mu it lies nowhere above.
        """
        from scipy.special import log_expit, ndtri_exp  # noqa: PLC0415  (20 MB that no node needs)

        return -2.0 * float(ndtri_exp(log_expit(-self.epsilon)))


Charge = Annotated[GaussianSum | SampledSteps | Vote, Field(discriminator="kind")]
