r"""Level and slope of the trained score: Newton's steps on noisy sums, shrunk by the known noise.

Every step asks the hospitals for two equations g, and their derivatives J by shift and slope, at
the model as it stands (:mod:`polyclinic_common.models.calibration`), and takes them as one noisy
look at :math:`\theta = (a, b)`. Where the equations hold :math:`-g = J(\theta^* - \theta)`, up to
the chance of who the patients are, of covariance vB, and the noise, :math:`\sigma` on each entry:
:math:`V = vB + \sigma^2 I + \mathrm{diag}(g^2)/10`. The last is for that the loss is bent and steps
are straight, or the first and longest would count like the rest. Beside a normal prior of precision
P around where one stands that gives

.. math:: P' = J^T V^{-1} J + P, \quad \theta' = \theta - P'^{-1} J^T V^{-1} g

(Bayes' rule for a linear normal model: Gelman et al., Bayesian Data Analysis (2013), section 14.8),
which are the prior of the next step. The first prior says: no shift, slope one, give or take the
public deviations below; so few patients or a small epsilon leave the model as it was trained.
All of it is post-processing of what was released.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.calibration import BOUNDS, recalibrated, score_scale
from polyclinic_common.models.score_head import Matrix, Vector
from polyclinic_server.rounds.state import Calibrated, State

SHIFT_DEVIATION = {"logistic": 1.0, "hazard": 1.0, "squared": 0.25, "huber": 0.25}
SLOPE_DEVIATION = 0.5
RESIDUAL_VARIANCE = {"logistic": 1.0, "hazard": 1.0, "squared": 0.04, "huber": 0.04}
LARGEST_SHIFT = 4.0  # of one step, in prior deviations
SLOPES = (0.1, 10.0)
LEAST_CURVATURE = 1e-6
BENT = 0.1  # of an equation's square: a step as long as it is off by about a third, being straight


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

    @property
    def rounds(self) -> Collection[int]:
        """In which rounds of a run it is asked for."""
        return self.encoding.study.calibration_rounds

    def begun(self, model: Vector) -> Calibrated:
        """Return what is known before the first step."""
        deviations = np.array([SHIFT_DEVIATION[self._loss], SLOPE_DEVIATION])
        return Calibrated(model, np.array([0.0, 1.0]), np.diag(deviations**-2.0))

    def model(self, known: Calibrated) -> Vector:
        """Return the model with shift and slope applied, shape (d,)."""
        shift, slope = known.mean
        return recalibrated(self.encoding, known.frozen, float(shift), float(slope))

    def advance(self, state: State, number: int, total: Vector, hospitals: int) -> State:
        """Return the state after a round of calibration at its average; see `step`."""
        known = self.step(state.calibrated or self.begun(state.average), total, hospitals)
        return replace(state, round_number=number, average=self.model(known), calibrated=known)

    def step(self, known: Calibrated, total: Vector, hospitals: int) -> Calibrated:
        """Return what is known after one more noisy sum over so many hospitals.

        Parameters
        ----------
        total : array of shape (6,)
            The equations and their derivatives, at `model(known)`.
        """
        unit = score_scale(self.encoding, self.model(known)) / known.mean[1]
        level, by_score, by_slope, both = total[2:] / BOUNDS[self._loss].curvature
        derivative = np.array([[level, by_slope], [by_score, both]]) @ np.diag([1.0, unit])
        chance = RESIDUAL_VARIANCE[self._loss] * _positive(level, (by_score + by_slope) / 2.0, both)
        spread = chance + hospitals * self.deviation**2 * np.eye(2)
        spread += BENT * np.diag(total[:2] ** 2)
        weight = derivative.T @ np.linalg.pinv(spread, hermitian=True)
        precision = weight @ derivative + known.precision
        change = np.linalg.solve(precision, -weight @ total[:2])
        largest = LARGEST_SHIFT * np.array([SHIFT_DEVIATION[self._loss], SLOPE_DEVIATION])
        mean = known.mean + np.clip(change, -largest, largest)
        mean[1] = np.clip(mean[1], *SLOPES)
        return Calibrated(known.frozen, mean, precision)


def _positive(first: float, cross: float, second: float) -> Matrix:
    """Return the positive definite matrix nearest to a symmetric one, shape (2, 2)."""
    values, vectors = np.linalg.eigh(np.array([[first, cross], [cross, second]]))
    return np.asarray(vectors * np.maximum(values, LEAST_CURVATURE) @ vectors.T)
