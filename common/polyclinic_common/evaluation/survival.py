r"""Survival figures from noisy cells: risk bin by time bin by event or end of follow-up.

Whose follow-up ends before a time t says nothing about it; those who are seen stand for them, by
the inverse of their probability to be seen (IPCW): :math:`w_i = 1/G(\min(T_i, t)^-)` with G the
Kaplan-Meier estimate of censoring, the weights of Graf, Schmoor, Sauerbrei and Schumacher,
Assessment and comparison of prognostic classification schemes for survival data (1999). Half of
those who are censored within a time bin count as censored at its start, half at its end after its
events. All weights together are as many as there are patients, so that nothing else is needed. With
predicted survival S and risk r:

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
every interval (:mod:`polyclinic_common.models.score_head`), so that a risk r fixes the whole curve
S(t|r). At every time the risks of those with the event, and of those without, are taken to be
normal, each with the shares that the cells put into the outer risk bins. Both metrics follow:
:math:`AUC(t) = \Phi((\mu_1 - \mu_0)/\sqrt{\sigma_1^2 + \sigma_0^2})`, the binormal curve of
rated data (Dorfman and Alf, Maximum-likelihood estimation of parameters of signal-detection theory
(1969)), and the means of :math:`S(t|r)^2` and :math:`(1 - S(t|r))^2`. Ties in a bin, counted half,
would take a tenth off the AUC.

All but the numbers of pairs stay as they are when all cells are scaled: intervals are those of
:mod:`polyclinic_common.evaluation.reading`. Slopes are central differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.statistic import RiskHistogram
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Vector, cut
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival

Floats = NDArray[np.float64]
LEAST_SHARE = 0.01  # of the patients in a risk bin, for where its mean risk lies
STEP = 1e-2  # of central differences, in patients
POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


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
    def early(self) -> Floats:
        """Patients of a time bin who count as censored at its start; the others, at its end.

        Half of them, as in life tables: Cutler and Ederer, Maximum utilization of the life table
        method in analyzing survival (1958).
        """
        return self.ended[..., :-1] / 2.0

    @property
    def survival(self) -> Floats:
        """Kaplan-Meier estimate within every risk bin at the end of every time bin."""
        return np.asarray(np.cumprod(1.0 - self.events / (self.at_risk - self.early), axis=-1))

    def weighted(self) -> tuple[Floats, Floats]:
        """Return patients with the event by the end of every time bin, and those without (IPCW).

        Both of shape (..., B, T); together they are all patients, at every time.
        """
        stay = self.at_risk - self.early
        free = stay - self.events
        late = self.ended[..., :-1] - self.early
        at_start = stay.sum(axis=-2) / self.at_risk.sum(axis=-2)
        at_end = 1.0 - late.sum(axis=-2) / free.sum(axis=-2)
        before = np.concatenate([np.ones_like(at_end[..., :1]), at_end[..., :-1]], axis=-1)
        weights = 1.0 / np.cumprod(at_start * before, axis=-1)[..., None, :]
        cases = np.cumsum(self.events * weights, axis=-1)
        return np.asarray(cases), np.asarray(free * weights)


@dataclass(frozen=True)
class Risks:
    """A normal distribution of risk, or several: mean and standard deviation, shape (...).

    Attributes
    ----------
    below : array of shape (..., B - 1)
        Its share below every edge.
    """

    mean: Floats
    deviation: Floats
    below: Floats

    @classmethod
    def of(cls, histogram: RiskHistogram, patients: Floats) -> Risks:
        """Return the one that puts these shares of patients, shape (..., B), into the outer bins.

        Shares below a hundredth count as that.
        """
        below = np.cumsum(_shares(np.maximum(_shares(patients), LEAST_SHARE)), axis=-1)[..., :-1]
        from scipy.special import ndtri  # noqa: PLC0415  (heavy)

        z = ndtri(below)
        lowest, highest = histogram.edges[0], histogram.edges[-1]
        deviation = (highest - lowest) / (z[..., -1] - z[..., 0])
        return cls(np.asarray(lowest - deviation * z[..., 0]), np.asarray(deviation), below)

    def means(self) -> Floats:
        """Return the mean risk within every risk bin, shape (..., B).

        Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 1 (1994), section
        13.10.1, truncated normal distributions.
        """
        from scipy.special import ndtri  # noqa: PLC0415  (heavy)

        density = np.exp(-np.square(ndtri(self.below)) / 2.0) / np.sqrt(2.0 * np.pi)
        edge = np.zeros_like(density[..., :1])
        share = np.diff(self.below, axis=-1, prepend=0.0, append=1.0)
        moved = -np.diff(np.concatenate([edge, density, edge], axis=-1), axis=-1) / share
        return np.asarray(self.mean[..., None] + self.deviation[..., None] * moved)

    def points(self) -> Floats:
        """Return risks whose average with `WEIGHTS` is that over the distribution, (..., J)."""
        return np.asarray(self.mean[..., None] + self.deviation[..., None] * POINTS)


def predicted_curves(histogram: RiskHistogram, risks: Floats, profile: Vector) -> Floats:
    """Return the predicted survival of risks (...) at the end of every time bin (..., T)."""
    from scipy.special import expit  # noqa: PLC0415  (heavy)

    curves = np.cumprod(expit(-(risks[..., None] + profile)), axis=-1)
    return np.asarray(curves[..., list(histogram.positions)])


def _shares(patients: Floats) -> Floats:
    """Return numbers of patients (..., B) as shares."""
    return np.asarray(patients / patients.sum(axis=-1, keepdims=True))


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
        return np.asarray(np.sqrt(np.tensordot(variance, np.square(self.slopes), axes=1)))

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
        `auc_at`. Shape (T, 2, B): `shares_at`, of patients with and without the event by then, in
        every risk bin. Shape (B, T): `at_risk_in`, `observed_in` and `predicted_in` it.
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
    cases, free = (np.swapaxes(each, -1, -2) for each in seen.weighted())  # (m, T, B)
    ill, well = Risks.of(histogram, cases), Risks.of(histogram, free)
    pairs = cases.sum(axis=-1) * free.sum(axis=-1)
    from scipy.special import ndtr  # noqa: PLC0415  (heavy)

    auc = ndtr((ill.mean - well.mean) / np.hypot(ill.deviation, well.deviation))
    patients = seen.patients.sum(axis=-1)[:, None]
    found = {
        "pairs": pairs.sum(axis=-1),
        "td_auc": (pairs * auc).sum(axis=-1) / pairs.sum(axis=-1),
        "at_risk": seen.at_risk.sum(axis=-2),
        "observed": free.sum(axis=-1) / patients,
        "pairs_at": pairs,
        "auc_at": auc,
        "shares_at": np.stack([_shares(cases), _shares(free)], axis=-2),
        "at_risk_in": seen.at_risk,
        "observed_in": seen.survival,
    }
    if profile is not None:
        everybody = Risks.of(histogram, seen.patients)
        found |= _predicted(histogram, everybody, profile)
        wrong = cases.sum(axis=-1) * _mean_at(histogram, ill, profile, np.square)
        wrong += free.sum(axis=-1) * _mean_at(histogram, well, profile, lambda s: (1.0 - s) ** 2)
        found["ibs"] = wrong / patients @ time_weights(np.asarray(histogram.ends))
    return found


def _predicted(histogram: RiskHistogram, everybody: Risks, profile: Vector) -> dict[str, Floats]:
    """Return what was predicted for everybody, and for the mean risk of every risk bin."""
    curves = predicted_curves(histogram, everybody.points(), profile)  # (m, J, T)
    return {
        "predicted": np.einsum("mjt,j->mt", curves, WEIGHTS),
        "predicted_in": predicted_curves(histogram, everybody.means(), profile),
    }


def _mean_at(
    histogram: RiskHistogram,
    risks: Risks,
    profile: Vector,
    of: Callable[[Floats], Floats],
) -> Floats:
    """Return the mean of a function of predicted survival, of each time's patients (m, T)."""
    curves = predicted_curves(histogram, risks.points(), profile)  # (m, T, J, T)
    return np.asarray(np.einsum("mtjt,j->mt", of(curves), WEIGHTS))
