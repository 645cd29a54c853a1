r"""Gaussian differential privacy: from (epsilon, delta) to noise, and back.

Everything here counts *releases of unsampled Gaussian sums*: one patient, added or removed, moves
the sum by at most the clip C in Euclidean norm, and Gaussian noise of standard deviation
:math:`\sigma C` is added. Such a release is :math:`\mu`-GDP with :math:`\mu = 1/\sigma` (Dong, Roth
and Su, Gaussian differential privacy, J. R. Stat. Soc. B 84 (2022), theorem 1).
"""

from __future__ import annotations

import math

from polyclinic_common.errors import Code, PrivacyError

UNIT = "patient (all rows of one patient together)"
ADJACENCY = "add or remove one patient"
ACCOUNTANT = "Gaussian DP, analytic conversion"
_LARGEST_MU = 1e3


def delta_of(epsilon: float, mu: float) -> float:
    r"""Return the smallest delta for which a `mu`-GDP mechanism is (epsilon, delta)-DP.

    :math:`\delta = \Phi(-\epsilon/\mu + \mu/2) - e^{\epsilon}\,\Phi(-\epsilon/\mu - \mu/2)`:
    Balle and Wang, Improving the Gaussian mechanism (ICML 2018), theorem 8; Dong, Roth and Su
    (2022), corollary 1.
    """
    from scipy.special import log_ndtr  # noqa: PLC0415  (heavy)

    if mu == 0:
        return 0.0
    first = log_ndtr(-epsilon / mu + mu / 2)
    second = epsilon + log_ndtr(-epsilon / mu - mu / 2)
    return max(0.0, float(math.exp(first) * -math.expm1(min(0.0, second - first))))


def epsilon_of(mu: float, delta: float) -> float:
    """Return the smallest epsilon for which a `mu`-GDP mechanism is (epsilon, delta)-DP."""
    from scipy.optimize import brentq  # noqa: PLC0415  (heavy)

    _check_delta(delta)
    if mu <= 0 or delta_of(0.0, mu) <= delta:
        return 0.0
    highest = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1
    return float(brentq(lambda e: delta_of(e, mu) - delta, 0.0, highest, xtol=1e-12, rtol=1e-12))


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest mu whose GDP guarantee implies (epsilon, delta)-DP.

    Raises
    ------
    PrivacyError
        If epsilon is not positive or delta is not strictly between 0 and 1.
    """
    from scipy.optimize import brentq  # noqa: PLC0415  (heavy)

    _check_delta(delta)
    if not 0 < epsilon < math.inf:
        raise PrivacyError(
            Code.PRIVACY_PARAMETER,
            f"Epsilon {epsilon} gives no noise level.",
            "Give a positive, finite epsilon.",
        )
    return float(
        brentq(lambda m: delta_of(epsilon, m) - delta, 1e-9, _LARGEST_MU, xtol=1e-14, rtol=1e-13)
    )


def compose(*mus: float) -> float:
    """Return the mu of several releases together: squares add up (Dong, Roth, Su, corollary 2)."""
    return math.sqrt(math.fsum(mu * mu for mu in mus))


def noise_multiplier(epsilon: float, delta: float, releases: int) -> float:
    """Return the noise multiplier of each of `releases` equal releases that cost (epsilon, delta).

    The standard deviation of a release's noise is the multiplier times the clip.
    """
    return math.sqrt(releases) / mu_of(epsilon, delta)


def spent_epsilon(multiplier: float, releases: int, delta: float) -> float:
    """Return the epsilon that `releases` releases with this noise multiplier have cost."""
    return epsilon_of(math.sqrt(releases) / multiplier, delta)


def check_delta(delta: float, declared_patients: int) -> None:
    """Refuse a delta that would allow a whole record to be published: delta >= 1 / patients."""
    if delta * declared_patients >= 1:
        raise PrivacyError(
            Code.PRIVACY_DELTA,
            f"Delta {delta} is not below 1 / {declared_patients} declared patients.",
            "Lower delta in the study, for example to 1e-5.",
        )


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise PrivacyError(
            Code.PRIVACY_DELTA,
            f"Delta {delta} is not between 0 and 1.",
            "Give a delta below 1 / (number of patients).",
        )
