"""The tighter epsilon that privacy loss random variables give: for information, never enforced.

A ledger enforces Renyi DP (:mod:`polyclinic_common.privacy.rdp`), which also holds for steps chosen
in sight of earlier results. This figure holds for a plan fixed in advance.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from polyclinic_common.privacy import rdp

ACCOUNTANT = "PRV of the sampled Gaussian (Opacus), upper end, for information"
_EPSILON_ERROR = 0.01
_DELTA_ERROR = 1e-3  # relative to delta
_MOST_POINTS = 2**21  # of the grid: about two seconds and half a gigabyte
_LEAST_RATE, _MOST_NOISE = 1e-12, 1e3  # beyond, series inside Opacus take minutes or never end
# What Opacus can raise on hard settings: grids that do not fit or drift from the mean,
# delta lost in rounding, epsilon beyond either end of the grid, exponentials out of range.
_FAILURES = (RuntimeError, ValueError, IndexError, OverflowError)


def prv_epsilon(multiplier: float, sampling_rate: float, steps: int, delta: float) -> float | None:
    """Return the upper end of the PRV accountant's epsilon, or None where it has no use.

    Gopi, Lee and Wutschitz, Numerical composition of differential privacy (NeurIPS 2021). None
    where the computation fails, would need an enormous grid, or is not below the RDP epsilon.
    """
    enforced = rdp.spent_epsilon(multiplier, sampling_rate, steps, delta)
    if enforced <= _EPSILON_ERROR or sampling_rate < _LEAST_RATE or multiplier > _MOST_NOISE:
        return None
    if _points(multiplier, sampling_rate, steps, delta) > _MOST_POINTS:
        return None
    from opacus.accountants import PRVAccountant  # noqa: PLC0415 - takes a second and loads torch

    accountant = PRVAccountant()
    accountant.history = [(multiplier, sampling_rate, steps)]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            epsilon = float(
                accountant.get_epsilon(
                    delta, eps_error=_EPSILON_ERROR, delta_error=_DELTA_ERROR * delta
                )
            )
    except _FAILURES:
        return None
    return epsilon if 0 <= epsilon <= enforced else None


def _points(multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    """Return about how many points the accountant's grid has (Gopi et al., section 5)."""
    delta_error = _DELTA_ERROR * delta
    reach = rdp.spent_epsilon(multiplier, sampling_rate, steps, delta_error / 4) + 3
    return 2 * reach * math.sqrt(steps * math.log(12 / delta_error) / 2) / _EPSILON_ERROR
