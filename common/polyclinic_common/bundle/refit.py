r"""Level and slope of a released model, fitted anew to one hospital's own patients.

With a model's score s and baselines l, the hospital's patients are predicted by
:math:`l + a + b s`, fitted by maximum likelihood (numbers: least squares), the score frozen. How
much is changed is decided by a closed test: level and slope, if they fit better than the model as
it stands; the level alone, if the slope adds nothing to it; nothing, if neither does; likelihood
ratios at 5 % (Vergouwe et al., A closed testing procedure to select an appropriate method for
updating prediction models, Stat. Med. 36 (2017), section 2.2, without refitting the score). A small
hospital so keeps what many hospitals know.

Nothing of it leaves the hospital.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from polyclinic_common.bundle.certificate import Record
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.models.calibration import recalibrated
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Vector, cut, logits
from polyclinic_common.rowwise import expit
from polyclinic_common.study.manifest import Study

Changed = Literal["nothing", "level", "level and slope"]
FEWEST_PATIENTS, FEWEST_ANSWERS = 20, 10
BOTH_CRITICAL, SLOPE_CRITICAL = 5.991464547107979, 3.841458820694124  # chi squared, 5 %, df 2 and 1
STEPS, NEAR = 50, 1e-9
LEAST_SPREAD = 1e-9


class Refit(Record):
    """Level and slope of one hospital.

    Attributes
    ----------
    shift, slope : float
        Added to every logit (or transformed outcome), and what the score is multiplied by.
    changed : str
        What of them differs from the model as it was released.
    patients : int
        On how many patients they rest.
    """

    shift: float
    slope: float
    changed: Changed
    patients: int

    def applied_to(self, study: Study, weights: Vector) -> Vector:
        """Return the model with this level and slope, shape (d,)."""
        return recalibrated(Encoding(study), weights, self.shift, self.slope)


@dataclass(frozen=True)
class Patients:
    """What a fit sees of n patients, with K outputs.

    Attributes
    ----------
    score : array of shape (n,)
        The model's score, without its baselines.
    baseline : array of shape (K,)
        Its baselines.
    y, mask : arrays of shape (n, K)
        Targets, and 1 where they count; see `Cohort`.
    likely : bool
        Whether targets have a likelihood (yes or no, hazards); else squares are fitted.
    """

    score: Vector
    baseline: Vector
    y: Matrix
    mask: Matrix
    likely: bool

    @staticmethod
    def of(study: Study, weights: Vector, x: Matrix, y: Matrix, mask: Matrix) -> Patients:
        """Return encoded patients as the model scores them."""
        encoding = Encoding(study)
        network = build_network(study, encoding)
        baseline = cut(network, weights).baseline * encoding.intercept
        score = logits(network, weights, x)[:, 0] - baseline[0]
        return Patients(score, baseline, y, mask, study.loss in {"logistic", "hazard"})

    def linear(self, shift: float, slope: float) -> Matrix:
        """Return the logits (or transformed outcomes) under a level and a slope, shape (n, K)."""
        return np.asarray((shift + slope * self.score)[:, None] + self.baseline)

    def lack_of_fit(self, shift: float, slope: float) -> float:
        """Return minus twice the log-likelihood, up to a constant."""
        linear = self.linear(shift, slope)
        if self.likely:
            each = np.logaddexp(0.0, linear) - linear * self.y
            return float(2.0 * (each * self.mask).sum())
        squares = float((np.square(self.y - linear) * self.mask).sum())
        return len(self.score) * float(np.log(max(squares, np.finfo(float).tiny)))


def refit(study: Study, weights: Vector, x: Matrix, y: Matrix, mask: Matrix) -> Refit:
    """Return the level and slope of a hospital's patients.

    Parameters
    ----------
    x, y, mask : arrays of shape (n, width), (n, K), (n, K)
        Encoded patients with a known outcome; see `Cohort`.

    Raises
    ------
    BundleError
        B021 if there are too few patients or answers of a kind, or the score says nothing of them.
    """
    patients = Patients.of(study, weights, x, y, mask)
    _require_enough(patients)
    level, both = _fit(patients, slope_too=False), _fit(patients, slope_too=True)
    lack = patients.lack_of_fit(*both)
    if patients.lack_of_fit(0.0, 1.0) - lack <= BOTH_CRITICAL:
        return Refit(shift=0.0, slope=1.0, changed="nothing", patients=len(x))
    if patients.lack_of_fit(*level) - lack <= SLOPE_CRITICAL:
        return Refit(shift=level[0], slope=1.0, changed="level", patients=len(x))
    if both[1] <= 0.0:
        raise _impossible("the model ranks these patients no better than chance, or the wrong way")
    return Refit(shift=both[0], slope=both[1], changed="level and slope", patients=len(x))


def _require_enough(patients: Patients) -> None:
    if len(patients.score) < FEWEST_PATIENTS:
        raise _impossible(f"there are fewer than {FEWEST_PATIENTS} patients")
    if float(patients.score.std()) < LEAST_SPREAD:
        raise _impossible("the model says the same of all patients")
    having = int(((patients.y * patients.mask).sum(axis=1) > 0.0).sum())
    if patients.likely and min(having, len(patients.score) - having) < FEWEST_ANSWERS:
        raise _impossible(
            f"fewer than {FEWEST_ANSWERS} patients had the outcome, or fewer than that did not"
        )


def _fit(patients: Patients, *, slope_too: bool) -> tuple[float, float]:
    """Return the best level, and the best slope with it or 1, by Newton's method."""
    found, open_ = np.array([0.0, 1.0]), slice(2 if slope_too else 1)
    design = np.column_stack([np.ones_like(patients.score), patients.score])[:, open_]
    for _ in range(STEPS):
        linear = patients.linear(*found)
        mean = expit(linear) if patients.likely else linear
        curvature = mean * (1.0 - mean) if patients.likely else np.ones_like(mean)
        weight = (patients.mask * curvature).sum(axis=1)
        lack = design.T @ (patients.mask * (patients.y - mean)).sum(axis=1)
        step = np.linalg.lstsq(design.T @ (weight[:, None] * design), lack)[0]
        found[open_] += step / max(1.0, float(np.linalg.norm(step)))
        if float(np.linalg.norm(step)) < NEAR:
            return float(found[0]), float(found[1])
    raise _impossible("the score separates those with the outcome from all others")


def _impossible(why: str) -> BundleError:
    return BundleError(
        Code.REFIT_IMPOSSIBLE,
        f"Level and slope cannot be fitted to these patients: {why}.",
        "Leave out --refit, or come back with more patients; a model that ranks nobody here is "
        "not to be used here.",
    )
