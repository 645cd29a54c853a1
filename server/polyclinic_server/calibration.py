r"""Level and slope of the trained score: Newton's steps on noisy sums, shrunk by the known noise.

Every step asks the hospitals for gradient and curvature at the model as it stands
(:mod:`polyclinic_common.models.calibration`) and takes them as one noisy look at (shift, slope).
With the sum of gradients g, curvature H, noise of standard deviation :math:`\sigma` on each entry
and residual variance v, the score :math:`-g` is :math:`H(\theta^*-\theta)` with covariance
:math:`V = vH + \sigma^2 I`. Beside a normal prior of precision P and mean m that gives

.. math:: P' = H V^{-1} H + P, \quad
          \theta' = \theta + P'^{-1}\bigl(-H V^{-1} g - P(\theta - m)\bigr)

(Bayes' rule for a linear normal model: Gelman et al., Bayesian Data Analysis (2013), section 14.8),
which are the prior of the next step. The first prior says: no shift, slope one, give or take the
public deviations below; so few patients or a small epsilon leave the model as it was trained.
All of it is post-processing of what was released.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.calibration import BOUNDS, recalibrated, score_scale
from polyclinic_common.models.network import Matrix, Vector

SHIFT_DEVIATION = {"logistic": 1.0, "hazard": 1.0, "squared": 0.25, "huber": 0.25}
SLOPE_DEVIATION = 0.5
RESIDUAL_VARIANCE = {"logistic": 1.0, "hazard": 1.0, "squared": 0.04, "huber": 0.04}
LARGEST_SHIFT = 4.0  # of one step, in prior deviations
SLOPES = (0.1, 10.0)
LEAST_CURVATURE = 1e-6


@dataclass(frozen=True)
class Calibrated:
    """What is known of shift and slope.

    Attributes
    ----------
    frozen : array of shape (d,)
        The model as it was trained.
    mean : array of shape (2,)
        Shift and slope that are applied to it.
    precision : array of shape (2, 2)
        How sure they are.
    """

    frozen: Vector
    mean: Vector
    precision: Matrix


@dataclass(frozen=True)
class Calibrator:
    """Sets a study's model right.

    Attributes
    ----------
    encoding : Encoding
        Of the study.
    deviation : float
        Standard deviation of one hospital's noise on every entry, in the unit of the clip; 0
        without privacy.
    """

    encoding: Encoding
    deviation: float

    @property
    def _loss(self) -> str:
        return self.encoding.study.loss

    def begun(self, model: Vector) -> Calibrated:
        """Return what is known before the first step."""
        deviations = np.array([SHIFT_DEVIATION[self._loss], SLOPE_DEVIATION])
        return Calibrated(model, np.array([0.0, 1.0]), np.diag(deviations**-2.0))

    def model(self, known: Calibrated) -> Vector:
        """Return the model with shift and slope applied, shape (d,)."""
        shift, slope = known.mean
        return recalibrated(self.encoding, known.frozen, float(shift), float(slope))

    def step(self, known: Calibrated, total: Vector, hospitals: int) -> Calibrated:
        """Return what is known after one more noisy sum over so many hospitals.

        Parameters
        ----------
        total : array of shape (5,)
            Gradient and upper triangle of the curvature, at `model(known)`.
        """
        unit = score_scale(self.encoding, self.model(known)) / known.mean[1]
        to_slope = np.diag([1.0, unit])  # sums are in units of the bound of the score
        noise = hospitals * self.deviation**2 * to_slope**2
        curvature = _positive(total[2:] / BOUNDS[self._loss].curvature)
        curvature = to_slope @ curvature @ to_slope
        spread = RESIDUAL_VARIANCE[self._loss] * curvature + noise
        weight = np.linalg.solve(spread, curvature).T  # H V^-1; both are symmetric
        precision = weight @ curvature + known.precision
        score = -to_slope @ total[:2]
        change = np.linalg.solve(precision, weight @ score)
        largest = LARGEST_SHIFT * np.array([SHIFT_DEVIATION[self._loss], SLOPE_DEVIATION])
        mean = known.mean + np.clip(change, -largest, largest)
        mean[1] = np.clip(mean[1], *SLOPES)
        return Calibrated(known.frozen, mean, precision)


def _positive(triangle: Vector) -> Matrix:
    """Return the positive definite matrix nearest to an upper triangle, shape (2, 2)."""
    first, cross, second = triangle
    values, vectors = np.linalg.eigh(np.array([[first, cross], [cross, second]]))
    return np.asarray(vectors * np.maximum(values, LEAST_CURVATURE) @ vectors.T)
