r"""Level and slope of a frozen score: what every patient adds, and what the two numbers change.

With a model's score s and baselines l, calibration fits :math:`l + a + b s`: one shift of all
baselines and one slope (Cox, Two further applications of a model for binary regression,
Biometrika 45 (1958); Van Calster et al., J. Clin. Epidemiol. 74 (2016), section 2.2). A hospital
is sent the model as it stands, a and b applied, and a patient adds to two equations, and to what
they change by with a and b,

.. math:: (r,\; r u,\; \kappa W,\; \kappa W u,\; \kappa W t,\; \kappa W u t),

with r the residual (over intervals: their sum) and W the curvature of the loss by the logit. t is
the score over a public S, clamped to [-3, 3], and u is it clamped to [-1, 1]: the equations stay
true where the model is, and nobody counts much. S follows from the broadcast model alone, and so
the vector is bounded whatever model is broadcast:

- yes or no: :math:`r = q - y`, :math:`W = q(1-q)`, and with :math:`e = |r|` the squared norm is at
  most :math:`2e^2 + 20\kappa^2e^2(1-e)^2`: with :math:`\kappa = 0.7` no e gives more than e = 1;
- numbers: r is clamped to 1/2, W is 1 and :math:`\kappa` 0.1: at most 1/2 + 20/100;
- hazards: residuals and curvatures add up over the intervals, so that no such bound holds: the
  vector is clipped to 2 (a patient's residual is one less the cumulative hazard, seldom beyond).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Vector, cut, logits
from polyclinic_common.rowwise import expit, row_sums

ENTRIES = 6
REACH, LEAST_SCALE = 0.35, 0.1
"""Of the scale S of a score, in logits: see `score_scale`."""
LARGEST_RESIDUAL, LARGEST_SCORE = 0.5, 3.0


class Bounds(NamedTuple):
    """What holds for a loss.

    Attributes
    ----------
    clip : float
        Bound on a patient's vector, Euclidean norm.
    curvature : float
        Factor kappa of the curvature's entries.
    """

    clip: float
    curvature: float


_NUMBERS = Bounds(float(np.sqrt(0.5 + 0.2)), 0.1)
BOUNDS = {
    "logistic": Bounds(float(np.sqrt(2.0)), 0.7),
    "hazard": Bounds(2.0, 0.35),
    "squared": _NUMBERS,
    "huber": _NUMBERS,
}


def score_scale(encoding: Encoding, weights: Vector) -> float:
    """Return the public scale S of a model's score, in logits.

    The score of columns that spread evenly over their ranges has a standard deviation of 0.58 times
    the norm of the last layer, for linear scores over the row scale; S is 0.35 of that norm: with a
    larger one the noise would drown more of the slope.
    """
    network = build_network(encoding.study, encoding)
    reach = REACH * float(np.linalg.norm(cut(network, weights).last))
    return max(LEAST_SCALE, reach if network.hidden else reach * encoding.intercept)


def contributions(
    encoding: Encoding, weights: Vector, x: Matrix, y: Matrix, mask: Matrix
) -> Matrix:
    """Return every patient's vector at the broadcast model, shape (n, 6), not clipped yet.

    Parameters
    ----------
    x, y, mask : arrays of shape (n, width), (n, K), (n, K)
        Encoded patients; see :class:`polyclinic_common.data.encoding.Cohort`.
    """
    network, loss = build_network(encoding.study, encoding), encoding.study.loss
    found = logits(network, weights, x)
    baseline = cut(network, weights).baseline[0] * encoding.intercept
    t = (found[:, 0] - baseline) / score_scale(encoding, weights)
    t, u = np.clip(t, -LARGEST_SCORE, LARGEST_SCORE), np.clip(t, -1.0, 1.0)
    if loss in {"logistic", "hazard"}:
        chance = expit(found)
        residual, curvature = chance - y, chance * (1.0 - chance)
    else:
        residual = np.clip(found - y, -LARGEST_RESIDUAL, LARGEST_RESIDUAL)
        curvature = np.ones_like(found)
    r = row_sums(mask * residual)
    w = BOUNDS[loss].curvature * row_sums(mask * curvature)
    return np.column_stack([r, r * u, w, w * u, w * t, w * u * t])


def recalibrated(encoding: Encoding, weights: Vector, shift: float, slope: float) -> Vector:
    """Return a model with all baselines shifted and the score multiplied, shape (d,).

    Parameters
    ----------
    shift : float
        Added to every output: in logits, or in units of the transformed outcome.
    slope : float
        What the score is multiplied by.
    """
    found = weights.copy()
    layers = cut(build_network(encoding.study, encoding), found)
    layers.last[:] *= slope
    layers.baseline[:] += shift / encoding.intercept
    return found
