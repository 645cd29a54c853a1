r"""The calibration CUSUM: evidence that outcomes have left predictions, forgotten when it fades.

For yes and no, and for the intervals of a survival curve, the score of an outcome y with predicted
risk p is the log likelihood ratio of a shift :math:`\delta` on the logit against none,

.. math:: s = \delta y - \log(1 - p + p e^{\delta}), \qquad W_i = \max(0, W_{i-1} + s_i),

with :math:`\delta = 0.5` for more than predicted and -0.5 for less: the risk-adjusted CUSUM of
Steiner, Cook, Farewell and Treasure, Monitoring surgical performance using risk-adjusted cumulative
sum charts (2000), equations 3 and 4. For numbers y is the residual in released standard errors and
:math:`s = \delta y - \delta^2/2`, Page's CUSUM of a normal mean (1954).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.watch.chances import Chances

Floats = NDArray[np.float64]
SHIFT = 0.5
"""The shift that is looked for: on the logit, or in standard errors of a number."""


@dataclass(frozen=True)
class Cusum:
    """The two sums after every chance, shape (m,): more, and less, than predicted."""

    more: Floats
    less: Floats


def cusum(chances: Chances) -> Cusum:
    """Return both sums over all chances."""
    more = SHIFT * chances.seen - cost(chances, SHIFT)
    less = -SHIFT * chances.seen - cost(chances, -SHIFT)
    return Cusum(_summed(more), _summed(less))


def cost(chances: Chances, shift: float) -> Floats:
    """Return what is taken off each score, shape (m,): its log moment under the model."""
    if chances.risk is None:
        return np.full(len(chances), shift**2 / 2.0)
    return np.asarray(np.log1p(chances.risk * np.expm1(shift)))


def _summed(scores: Floats) -> Floats:
    sums = accumulate(scores.tolist(), lambda before, score: max(0.0, before + score), initial=0.0)
    return np.array(list(sums)[1:])
