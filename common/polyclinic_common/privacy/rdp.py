r"""Renyi differential privacy: what Poisson-sampled Gaussian steps cost, and the noise they need.

One step draws each patient independently with probability q (the sampling rate), adds up vectors
clipped to C and adds Gaussian noise of standard deviation :math:`\sigma C`. Adjacency: add or
remove one patient. Costs at one order add up over steps, sampled or not, also where a step was
chosen in sight of earlier results: an account is a sum of the arrays returned here.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.errors import Code, PrivacyError

ACCOUNTANT = "Renyi DP of the sampled Gaussian, integer orders"
ORDERS = (*range(2, 65), *range(72, 129, 8), *range(160, 257, 32), *range(320, 513, 64), 768, 1024)
Floats = NDArray[np.float64]


def gaussian(multiplier: float, orders: tuple[int, ...] = ORDERS) -> Floats:
    r"""Return the RDP of one unsampled Gaussian release, :math:`\alpha / (2\sigma^2)`.

    Mironov, Renyi differential privacy (CSF 2017), corollary 3.
    """
    _check(1, multiplier)
    with np.errstate(over="ignore"):
        return np.asarray(orders) / 2 / multiplier / multiplier


def sampled_gaussian(
    sampling_rate: float, multiplier: float, orders: tuple[int, ...] = ORDERS
) -> Floats:
    r"""Return the RDP of one Poisson-sampled Gaussian step at each order.

    :math:`\frac{1}{\alpha-1}\log\sum_{k=0}^{\alpha}\binom{\alpha}{k}(1-q)^{\alpha-k}q^k
    e^{(k^2-k)/2\sigma^2}`: Mironov, Talwar and Zhang, Renyi differential privacy of the sampled
    Gaussian mechanism (2019), section 3.3. The binomial weights add up to 1 and the exponents of
    k = 0 and 1 are 0, so the sum is 1 plus the positive terms :math:`e^{\ldots} - 1` of k >= 2:
    nothing cancels, however small q is.
    """
    _check(sampling_rate, multiplier)
    if sampling_rate == 0:
        return np.zeros(len(orders))
    if sampling_rate == 1:
        return gaussian(multiplier, orders)
    k, rest, log_binomial, starts = _terms(orders)
    with np.errstate(over="ignore", divide="ignore"):
        exponent = k * (k - 1) / 2 / multiplier / multiplier
        log_growth = exponent + np.log(-np.expm1(-exponent))
    log_weight = log_binomial + k * math.log(sampling_rate) + rest * math.log1p(-sampling_rate)
    log_excess = np.logaddexp.reduceat(log_weight + log_growth, starts)
    return np.asarray(np.logaddexp(0.0, log_excess) / (np.asarray(orders) - 1))


def epsilon_of(rdp: Floats, delta: float, orders: tuple[int, ...] = ORDERS) -> float:
    r"""Return the epsilon of an account with this RDP at `delta`, the best over the orders.

    :math:`\epsilon = R_\alpha + \log\frac{\alpha-1}{\alpha} - \frac{\log(\delta\alpha)}{\alpha-1}`:
    Canonne, Kamath and Steinke, The discrete Gaussian for differential privacy (2020), proposition
    12; Balle et al., Hypothesis testing interpretations and Renyi differential privacy (2020),
    theorem 21. Zero where the total variation is at most delta, which
    :math:`1 - e^{-R} \le \delta^2` implies (Bretagnolle and Huber, 1979).
    """
    offsets = _offsets(delta, orders)
    if -math.expm1(-float(rdp.min())) <= delta * delta:
        return 0.0
    return max(0.0, float((rdp + offsets).min()))


def spent_epsilon(multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    """Return the epsilon that `steps` sampled steps with this noise multiplier have cost."""
    _require(steps >= 0, f"{steps} steps cannot be taken.", "Give a number of steps from 0.")
    rdp = sampled_gaussian(sampling_rate, multiplier)
    with np.errstate(over="ignore"):
        return epsilon_of(steps * rdp, delta) if steps else 0.0


@lru_cache(maxsize=4096)
def noise_multiplier(
    epsilon: float, delta: float, sampling_rate: float, steps: int, beside: float = 0.0
) -> float:
    r"""Return the smallest noise multiplier with which `steps` sampled steps cost (epsilon, delta).

    `beside` is the sum of mu^2 of unsampled releases that (epsilon, delta) pays for too.
    The RDP of a step is at most :math:`\alpha/2\sigma^2` and, by its last term alone, at least
    :math:`\alpha/2\sigma^2 - \frac{\alpha}{\alpha-1}\log\frac1q`. Both ends can be solved for
    :math:`\sigma`; the root lies between them. The result errs towards more noise.
    """
    _require(
        0 < epsilon < math.inf and 0 < sampling_rate <= 1 and steps >= 1,
        f"Epsilon {epsilon}, sampling rate {sampling_rate}, {steps} steps give no noise level.",
        "Give a positive, finite epsilon, a sampling rate above 0 and up to 1, at least one step.",
    )
    orders = np.asarray(ORDERS)
    unsampled = beside / 2 * orders
    room = epsilon - _offsets(delta, ORDERS) - unsampled  # what is left to the mechanism
    _require(
        float(room.max()) > 1e-6 * epsilon,
        f"Epsilon {epsilon} cannot be reached at delta {delta}, whatever the noise.",
        "Raise epsilon, or raise delta if the number of patients allows it.",
    )

    def solved(room: Floats) -> float:
        return math.sqrt(steps * float((orders / 2 / room)[room > 0].min()))

    def spent_with(multiplier: float) -> float:
        with np.errstate(over="ignore"):
            sampled = steps * sampled_gaussian(sampling_rate, multiplier)
            return epsilon_of(sampled + unsampled, delta)

    def excess(log_multiplier: float) -> float:
        spent = spent_with(math.exp(log_multiplier))
        return math.log(max(spent / epsilon, 1e-3))

    from scipy.optimize import brentq  # noqa: PLC0415  (heavy)

    low = math.log(solved(room - steps * orders / (orders - 1) * math.log(sampling_rate)))
    high = math.log(2 * solved(room))
    multiplier = math.exp(low if excess(low) <= 0 else brentq(excess, low, high, xtol=1e-10))
    while spent_with(multiplier) > epsilon:
        multiplier *= 1 + 1e-9
    return multiplier


@lru_cache(maxsize=8)
def _terms(orders: tuple[int, ...]) -> tuple[Floats, Floats, Floats, NDArray[np.intp]]:
    """Return k, order - k and log binomial(order, k), k = 2..order, all orders end to end."""
    from scipy.special import betaln  # noqa: PLC0415  (heavy)

    counts = np.asarray(orders) - 1
    starts = np.cumsum(counts) - counts
    order = np.repeat(np.asarray(orders, dtype=np.float64), counts)
    k = np.concatenate([np.arange(2.0, each + 1) for each in orders])
    return k, order - k, -np.log(order + 1) - betaln(k + 1, order - k + 1), starts


@lru_cache(maxsize=64)
def _offsets(delta: float, orders: tuple[int, ...]) -> Floats:
    """Return what the conversion to (epsilon, delta) adds to the RDP at each order."""
    remedy = "Give a delta below 1 / (number of patients)."
    _require(0 < delta < 1, f"Delta {delta} is not between 0 and 1.", remedy, Code.PRIVACY_DELTA)
    order = np.asarray(orders, dtype=np.float64)
    return np.asarray(np.log1p(-1 / order) - np.log(delta * order) / (order - 1))


def _check(sampling_rate: float, multiplier: float) -> None:
    _require(
        0 <= sampling_rate <= 1 and multiplier > 0,
        f"Sampling rate {sampling_rate} and noise multiplier {multiplier} give no privacy.",
        "Give a sampling rate from 0 to 1 (expected batch / patients) and a positive multiplier.",
    )


def _require(holds: bool, what: str, remedy: str, code: Code = Code.PRIVACY_PARAMETER) -> None:
    if not holds:
        raise PrivacyError(code, what, remedy)
