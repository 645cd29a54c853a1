r"""Survival figures from noisy cells: risk bin by time bin by event or end of follow-up.

Whose follow-up ends before a time t says nothing about it; those who are seen stand for them, by
the inverse of their probability to be seen (IPCW). With G the Kaplan-Meier estimate of censoring,
a patient i whose event falls into time bin j weighs :math:`1/G(t_{j-1})` at the end :math:`t_k` of
every bin :math:`k \ge j`, and one who is seen without weighs :math:`1/G(t_{k-1})`: the weights of
Graf, Schmoor, Sauerbrei and Schumacher, Assessment and comparison of prognostic classification
schemes for survival data (1999), with events before censoring where they tie. Within a bin they all
tie: whoever is censored in it counts as free of the event until its end. All weights together are
as many as there are patients, so that nothing else is needed. With weights w, predicted survival S
and risk r:

- *Brier score* (Graf et al. 1999, the score under censoring):
  :math:`BS(t) = n^{-1} [\sum_{T_i \le t} w_i S_i(t)^2 + \sum_{T_i > t} w_i (1 - S_i(t))^2]`;
  integrated: :math:`\int_0^\tau BS(t)\,dt / \tau` by the trapezoidal rule, with BS(0) = 0 and
  :math:`\tau` the last time.
- *Time-dependent AUC*, cumulative/dynamic (Heagerty, Lumley and Pepe, Time-dependent ROC curves for
  censored survival data and a diagnostic marker (2000)), weighted as by Uno, Cai, Tian and Wei,
  Evaluating prediction rules for t-year survivors with censored regression models (2007):
  :math:`AUC(t) = P(t)^{-1} \sum_{T_i \le t < T_j} w_i w_j [1(r_i > r_j) + 1(r_i = r_j) / 2]` with
  :math:`P(t) = \sum_{T_i \le t < T_j} w_i w_j`. Over all times, numerators and denominators are
  added up: a time weighs as much as it can compare, :math:`n^2 F(t) S(t)`.

What was predicted is known by risk bin only. A study's network adds one score to the hazard of
every interval (:mod:`polyclinic_common.models.network`), so that a risk fixes the whole curve. A
bin takes the curve of its mean risk, under the normal distribution that puts the released shares of
patients into the bins: rounded predictions, whose Brier score is a little higher.

All but the numbers of pairs stay as they are when all cells are scaled: intervals are those of
:mod:`polyclinic_common.evaluation.reading`. Slopes are central differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.statistics import RiskHistogram
from polyclinic_common.models.network import Vector, build_network, cut
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival

Floats = NDArray[np.float64]
LEAST_SHARE = 0.01  # of the patients in a risk bin, for where its mean risk lies
STEP = 1e-2  # of central differences, in patients


def hazard_profile(study: Study, weights: Vector) -> Vector | None:
    """Return what a model adds to a patient's risk in every interval of the grid, shape (K,).

    The logit of the hazard in interval k is the risk plus entry k: a function of the broadcast
    model alone. None where the outcome is not survival.
    """
    if not isinstance(study.outcome, Survival):
        return None
    encoding = Encoding(study)
    baseline = cut(build_network(study, encoding), weights).baseline * encoding.intercept
    return np.asarray(baseline - baseline.mean())


@dataclass(frozen=True)
class Seen:
    """Patients by risk bin and time bin; leading axes hold cells that are read at once.

    Attributes
    ----------
    events, ended : arrays of shape (..., B, T) and (..., B, T + 1)
        With an event in a time bin; with the end of follow-up there, or beyond the last.
    """

    events: Floats
    ended: Floats

    @classmethod
    def of(cls, histogram: RiskHistogram, cells: Floats) -> Seen:
        """Cut cells of shape (..., size) into events and ends of follow-up."""
        by_bin = cells.reshape(*cells.shape[:-1], histogram.bins, histogram.outcomes)
        last = len(histogram.ends)
        return cls(by_bin[..., :last], by_bin[..., last:])

    @property
    def patients(self) -> Floats:
        """Patients of every risk bin, shape (..., B)."""
        return np.asarray(self.events.sum(axis=-1) + self.ended.sum(axis=-1))

    @property
    def at_risk(self) -> Floats:
        """Patients of every risk bin at the start of every time bin, shape (..., B, T)."""
        leaving = self.events + self.ended[..., :-1]
        later = np.cumsum(leaving[..., ::-1], axis=-1)[..., ::-1]
        return np.asarray(later + self.ended[..., -1:])

    @property
    def survival(self) -> Floats:
        """Kaplan-Meier estimate within every risk bin at the end of every time bin."""
        return np.cumprod(1.0 - self.events / self.at_risk, axis=-1)

    def weighted(self) -> tuple[Floats, Floats]:
        """Return patients with the event by the end of every time bin, and those without (IPCW).

        Both of shape (..., B, T); together they are all patients, at every time.
        """
        events, ended = self.events.sum(axis=-2), self.ended[..., :-1].sum(axis=-2)
        free = self.at_risk.sum(axis=-2) - events
        seen = np.cumprod(1.0 - ended / free, axis=-1)
        before = np.concatenate([np.ones_like(seen[..., :1]), seen[..., :-1]], axis=-1)
        weights = 1.0 / before[..., None, :]
        cases = np.cumsum(self.events * weights, axis=-1)
        return np.asarray(cases), np.asarray((self.at_risk - self.events) * weights)


def mean_risks(histogram: RiskHistogram, patients: Floats) -> Floats:
    """Return the mean risk of every risk bin, both of shape (..., B).

    Of the normal distribution that puts these shares of patients below the first edge and above
    the last: the mean of a truncated normal distribution (Johnson, Kotz and Balakrishnan,
    Continuous Univariate Distributions (1994), section 13.10.1).
    """
    shares = np.maximum(patients / patients.sum(axis=-1, keepdims=True), LEAST_SHARE)
    below = np.cumsum(shares / shares.sum(axis=-1, keepdims=True), axis=-1)[..., :-1]
    lowest, highest = histogram.edges[0], histogram.edges[-1]
    z = ndtri(below)
    deviation = ((highest - lowest) / (z[..., -1] - z[..., 0]))[..., None]
    mean = lowest - deviation * z[..., :1]
    infinite = np.full_like(mean, np.inf)
    inner = (np.asarray(histogram.edges) - mean) / deviation
    ends = np.concatenate([-infinite, inner, infinite], axis=-1)
    density = np.exp(-np.square(ends) / 2.0) / np.sqrt(2.0 * np.pi)
    moved = -np.diff(density, axis=-1) / np.diff(ndtr(ends), axis=-1)
    return np.asarray(mean + deviation * moved)


def predicted_curves(histogram: RiskHistogram, risks: Floats, profile: Vector) -> Floats:
    """Return the predicted survival of risks (..., B) at the end of every time bin (..., B, T)."""
    curves = np.cumprod(expit(-(risks[..., None] + profile)), axis=-1)
    return np.asarray(curves[..., list(histogram.positions)])


def time_weights(ends: Floats) -> Floats:
    """Return the weight of every time in an area by the trapezoidal rule, over the last time.

    The area starts with 0 at time 0, where nobody is wrong.
    """
    steps = np.diff(ends, prepend=0.0)
    return np.asarray((steps + np.append(steps[1:], 0.0)) / 2.0 / ends[-1])


@dataclass(frozen=True)
class Estimate:
    """Figures with their slopes by cell.

    Attributes
    ----------
    value : array of any shape (...)
        The figures.
    slopes : array of shape (size, ...)
        How much they move per patient in a cell.
    """

    value: Floats
    slopes: Floats

    def deviation(self, cells: Floats, noise: float) -> Floats:
        """Return standard deviations by sampling and noise (see the module of readings)."""
        variance = np.maximum(cells, 0.0) + noise**2
        return np.sqrt(np.tensordot(variance, np.square(self.slopes), axes=1))

    def blur(self, noise: float) -> Floats:
        """Return standard deviations by noise alone."""
        return np.asarray(noise * np.linalg.norm(self.slopes, axis=0))


def estimate(
    histogram: RiskHistogram, cells: Floats, profile: Vector | None
) -> dict[str, Estimate]:
    """Return all figures of the cells of one group, by name; NaN where they say nothing.

    Parameters
    ----------
    cells : array of shape (size,)
        Numbers of patients, noisy.
    profile : array of shape (K,) or None
        Of :func:`hazard_profile`; without it nothing that was predicted is known.

    Returns
    -------
    dict of str to Estimate
        Shape (): `pairs` and `td_auc` over all times, `ibs`. Shape (T,), at the end of every
        time bin: `at_risk` at its start, `observed` and `predicted` survival, `pairs_at` and
        `auc_at`. Shape (B, T): `at_risk_in`, `observed_in` and `predicted_in` every risk bin.
    """
    steps = STEP * np.eye(cells.size)
    with np.errstate(all="ignore"):
        found = _figures(histogram, np.stack([cells, *(cells + steps), *(cells - steps)]), profile)
    size = cells.size
    return {
        name: Estimate(each[0], (each[1 : size + 1] - each[size + 1 :]) / (2.0 * STEP))
        for name, each in found.items()
    }


def _figures(histogram: RiskHistogram, cells: Floats, profile: Vector | None) -> dict[str, Floats]:
    """Return the figures of cells of shape (m, size), all of shape (m, ...)."""
    seen = Seen.of(histogram, cells)
    cases, free = seen.weighted()
    lower = np.cumsum(free, axis=-2) - free / 2.0  # without the event and with less risk; ties half
    pairs, ordered = cases.sum(axis=-2) * free.sum(axis=-2), (cases * lower).sum(axis=-2)
    patients = seen.patients.sum(axis=-1)[:, None]
    found = {
        "pairs": pairs.sum(axis=-1),
        "td_auc": ordered.sum(axis=-1) / pairs.sum(axis=-1),
        "at_risk": seen.at_risk.sum(axis=-2),
        "observed": free.sum(axis=-2) / patients,
        "pairs_at": pairs,
        "auc_at": ordered / pairs,
        "at_risk_in": seen.at_risk,
        "observed_in": seen.survival,
    }
    if profile is not None:
        curves = predicted_curves(histogram, mean_risks(histogram, seen.patients), profile)
        wrong = (cases * curves**2 + free * (1.0 - curves) ** 2).sum(axis=-2) / patients
        found["ibs"] = wrong @ time_weights(np.asarray(histogram.ends))
        found["predicted_in"] = curves
        found["predicted"] = (seen.patients[..., None] * curves).sum(axis=-2) / patients
    return found
