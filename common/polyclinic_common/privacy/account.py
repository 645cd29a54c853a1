r"""What all releases of a hospital cost together, and whether one more fits under a cap.

An account is a multiset of charges. Two ways of adding up:

- *Gaussian DP*, where nothing was sampled: squares of mu add up. A rule that stops before their sum
  passes a bound fixed in advance keeps the guarantee though each release is chosen in sight of the
  earlier ones: Smith and Thakurta, Fully adaptive composition for Gaussian differential privacy
  (2022); Koskela, Tobaben and Honkela, Individual privacy accounting with Gaussian differential
  privacy (ICLR 2023), theorem 11.
- *Renyi DP*, as soon as one release was sampled, for the whole account: the costs at one order add
  up, and stopping before their sum passes a bound is as safe: Feldman and Zrnic, Individual privacy
  accounting via a Renyi filter (NeurIPS 2021), theorem 4.3. A discrete Gaussian has the Renyi
  divergence of a continuous one (Canonne, Kamath and Steinke, The discrete Gaussian for
  differential privacy (2020), theorem 4; sums: Kairouz, Liu and Steinke, The distributed discrete
  Gaussian mechanism (ICML 2021), theorem 1), so nothing is added for it. The theorem is about one
  order; the best order is taken here, as every Renyi accountant does.

*Discreteness.* In Gaussian DP a discrete Gaussian counts as a rounded normal variable. Within 32
standard deviations their probabilities differ by a factor of at most :math:`e^{\pm\eta}` with
:math:`\eta = 365/V^2` (next term of the expansion: :math:`He_4(32)/2880V^2`); a draw beyond has
probability :math:`2e^{-512}`. Over N entries the likelihood of everything released changes by
:math:`e^{\pm N\eta}` under either data set, so that :math:`(\epsilon, \delta)` of the rounded
normals gives :math:`(\epsilon + 2N\eta,\, e^{N\eta}\delta)`. Each query charges a fixed
:data:`ALLOWANCE` for 2 N eta; an account that passes it has no finite epsilon. The factor does not
grow with epsilon, as a bound by total variation does (:math:`(1+e^\epsilon) N\,6\cdot10^{-4}/V^2`,
void from epsilon = 20 on). Being fixed, the allowance does not disturb the filter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.charges import Charge, GaussianSum, SampledSteps, Vote

ALLOWANCE = 1e-4  # added to epsilon, and taken from log delta, for discreteness and root finding
MOST_EPSILON = 300.0  # beyond, draws 32 deviations out would count
_FACTOR = 365.0
_MOST_FITTING = 2**40
Account = Mapping[Charge, int]


@dataclass(frozen=True)
class _Totals:
    """Sum of mu^2, sum of 2 N eta, sum of the sampled charges' RDP (None without any)."""

    mu_squared: float = 0.0
    discreteness: float = 0.0
    rdp: rdp.Floats | None = None

    def plus(self, other: _Totals, count: int = 1) -> _Totals:
        with np.errstate(over="ignore"):
            extra = None if other.rdp is None else count * other.rdp
            both = self.rdp if extra is None else extra if self.rdp is None else self.rdp + extra
        return _Totals(
            self.mu_squared + count * other.mu_squared,
            self.discreteness + count * other.discreteness,
            both,
        )

    def epsilon(self, delta: float) -> float:
        gdp.check_delta(delta, declared_patients=1)
        if self.rdp is not None:
            with np.errstate(over="ignore"):
                curve = self.rdp + self.mu_squared / 2 * np.asarray(rdp.ORDERS)
            return rdp.epsilon_of(curve, delta)
        if self.mu_squared > MOST_EPSILON * 2 or self.discreteness > ALLOWANCE:
            return math.inf
        if self.mu_squared == 0.0:
            return gdp.epsilon_of(0.0, delta)
        epsilon = gdp.epsilon_of(math.sqrt(self.mu_squared), delta * math.exp(-ALLOWANCE))
        return epsilon + ALLOWANCE if epsilon + ALLOWANCE <= MOST_EPSILON else math.inf


def spent_epsilon(charges: Account, delta: float) -> float:
    """Return the epsilon that these charges have cost together at `delta`.

    Parameters
    ----------
    charges : mapping of Charge to int
        How often each charge was made.
    delta : float
        Delta of the account.

    Returns
    -------
    float
        Epsilon for adding or removing one patient; 0 for an empty account; infinite where no
        guarantee is left.

    Raises
    ------
    PrivacyError
        If delta is not strictly between 0 and 1 or a count is negative.
    """
    return _totals(charges).epsilon(delta)


def fits(charges: Account, extra: Charge, epsilon_cap: float, delta: float, count: int = 1) -> bool:
    """Return whether `count` more of `extra` leave the account at or below `epsilon_cap`.

    A privacy filter: asked before every release, with cap and delta fixed in advance, it keeps
    (epsilon_cap, delta) over releases chosen in sight of all earlier ones.
    """
    together = Counter(charges)
    together[extra] += count
    spent = _totals(together).epsilon(delta)
    return spent <= epsilon_cap < math.inf


def how_many_fit(charges: Account, charge: Charge, epsilon_cap: float, delta: float) -> int:
    """Return how many more of `charge` fit under `epsilon_cap` (up to 2^40)."""
    start, one = _totals(charges), _totals({charge: 1})

    def fitting(count: int) -> bool:
        return start.plus(one, count).epsilon(delta) <= epsilon_cap < math.inf

    if not fitting(1):
        return 0
    low = 1
    while low < _MOST_FITTING and fitting(2 * low):
        low *= 2
    high = 2 * low
    while low < _MOST_FITTING and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fitting(middle) else (low, middle)
    return low


def two_hospitals_epsilon(charges: Account, delta: float) -> float:
    """Return, for information, the epsilon of a patient whom two hospitals of the runs hold.

    A sum of both hospitals moves by twice the sensitivity: mu doubles. Votes and sampled steps are
    each hospital's own: they count twice. Assumes that the other hospital made the same releases.
    """
    return _totals(charges, sums=4.0, votes=2.0, steps=lambda step: 2 * _sampled(step)).epsilon(
        delta
    )


def replace_one_epsilon(charges: Account, delta: float) -> float:
    """Return, for information, the epsilon for replacing one patient by another.

    A sum moves by twice the sensitivity: mu doubles. A vote costs what it costs. Sampled steps pass
    through the data without either patient (:func:`_replaced`).
    """
    return _totals(charges, sums=4.0, steps=_replaced).epsilon(delta)


def discreteness(charge: GaussianSum) -> float:
    """Return 2 N eta of one release (see the module): what discreteness can add to epsilon."""
    return 2 * charge.length * _FACTOR / charge.ideal_variance**2


def _sampled(charge: SampledSteps) -> rdp.Floats:
    """Return the RDP of all steps of the charge, one number for each of ``rdp.ORDERS``."""
    return charge.steps * _one_step(charge.rate, charge.multiplier)


@lru_cache(maxsize=4096)
def _one_step(rate: float, multiplier: float) -> rdp.Floats:
    curve = rdp.sampled_gaussian(rate, multiplier)
    curve.setflags(write=False)
    return curve


def _replaced(charge: SampledSteps) -> rdp.Floats:
    r"""Return a bound on the RDP of the steps when a patient is replaced.

    :math:`\frac{2\alpha - 3/2}{\alpha-1} R_{2\alpha}`: Mironov, Renyi differential privacy (CSF
    2017), proposition 11 with p = q = 2, and :math:`R_{2\alpha-1} \le R_{2\alpha}`.
    """
    orders = np.asarray(rdp.ORDERS)
    twice = tuple(2 * order for order in rdp.ORDERS)
    step = rdp.sampled_gaussian(charge.rate, charge.multiplier, twice)
    return np.asarray(charge.steps * step * (2 * orders - 1.5) / (orders - 1))


def _totals(
    charges: Account,
    *,
    sums: float = 1.0,
    votes: float = 1.0,
    steps: Callable[[SampledSteps], rdp.Floats] = _sampled,
) -> _Totals:
    """Add up an account, with factors on the mu^2 of sums and of votes.

    The result depends on the multiset alone, to the last bit: a cap that was computed from the
    same charges in another order is met exactly.
    """
    squares: list[float] = []
    rounding: list[float] = []
    sampled: list[tuple[SampledSteps, int]] = []
    for charge, count in charges.items():
        if count < 0:
            raise _negative(charge, count)
        match charge:
            case GaussianSum():
                squares.append(count * sums * charge.mu**2)
                # The moved distributions stay the same; two hospitals may mean two vectors.
                rounding.append(count * math.sqrt(sums) * discreteness(charge))
            case Vote():
                squares.append(count * votes * charge.mu**2)
            case SampledSteps() if count:
                sampled.append((charge, count))
    sampled.sort(key=lambda item: (item[0].rate, item[0].multiplier, item[0].steps))
    with np.errstate(over="ignore"):
        curves = [count * steps(charge) for charge, count in sampled]
        curve = np.sum(curves, axis=0) if curves else None
    return _Totals(math.fsum(squares), math.fsum(rounding), curve)


def _negative(charge: Charge, count: int) -> PrivacyError:
    return PrivacyError(
        Code.PRIVACY_PARAMETER,
        f"A charge of kind {charge.kind} is counted {count} times.",
        "Give counts from 0; this is a defect of the caller.",
    )
