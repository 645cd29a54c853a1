"""What metrics would be with other test patients: the bootstrap, the same for every model.

A patient counts in a resample as often as a Poisson variable of mean 1 says, drawn from a hash of
the patient's number: the same patient has the same weights for every model and in every run, so
that differences between models are paired patient by patient. Hanley and MacGibbon, Creating
non-parametric bootstrap samples using Poisson frequencies (2006). Only metrics are kept, of no
single patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.survival import time_weights
from polyclinic_common.models.predict import Prediction
from polyclinic_simulations.results.survival_scores import statuses

Floats = NDArray[np.float64]
Grid = tuple[float, ...]
Metric = Callable[[Observed, Prediction, Floats, Grid], Floats]
RESAMPLES = 200
PAIRS_AT_ONCE = 2_000_000


def patient_weights(numbers: Sequence[str]) -> Floats:
    """Return how often each patient counts in each resample, shape (n, RESAMPLES)."""
    weights = np.ones((len(numbers), RESAMPLES))
    for row, number in enumerate(numbers):
        digest = hashlib.sha256(f"resample|{number}".encode()).digest()
        weights[row] = np.random.default_rng(int.from_bytes(digest[:8], "big")).poisson(
            1.0, RESAMPLES
        )
    return weights


def resampled(
    observed: Observed,
    predicted: Prediction,
    weights: Floats,
    metrics: Sequence[str],
    grid: Grid = (),
) -> dict[str, list[float | None]]:
    """Return every metric in every resample; null where undefined, absent where not offered.

    Parameters
    ----------
    observed : Observed
        Of n patients.
    predicted : Prediction
        For the same; a value that is NaN is left out.
    weights : array of shape (n, R)
        From :func:`patient_weights`.
    grid : tuple of float
        The times of a survival study.
    """
    known = ~np.isnan(observed.value) & ~np.isnan(predicted.value)
    if not known.any():
        return {}
    taken = observed.take(known), predicted.take(known), weights[known], grid
    if predicted.survival is None:
        metrics = [key for key in metrics if key != "ibs"]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {key: _METRICS[key](*taken) for key in metrics if key in _METRICS}
    return {
        key: [float(value) if np.isfinite(value) else None for value in values]
        for key, values in found.items()
    }


def _mean(of: Callable[[Floats, Floats], Floats]) -> Metric:
    """Return the metric that is the mean over patients of a function of outcome and prediction."""

    def weighted(observed: Observed, predicted: Prediction, weights: Floats, _: Grid) -> Floats:
        each = of(observed.value, predicted.value)
        return np.asarray(each @ weights / weights.sum(axis=0))

    return weighted


def _square(value: Floats, predicted: Floats) -> Floats:
    return np.square(predicted - value)


def _rmse(observed: Observed, predicted: Prediction, weights: Floats, grid: Grid) -> Floats:
    return np.sqrt(_mean(_square)(observed, predicted, weights, grid))


def _auc(observed: Observed, predicted: Prediction, weights: Floats, _: Grid) -> Floats:
    """Area under the ROC curve by weighted ranks, ties counted half."""
    positive = (observed.value > 0.5)[:, None]
    right, pairs = _ranked(predicted.value, weights * positive, weights * ~positive)
    return np.asarray(right / pairs)


def _ranked(score: Floats, ones: Floats, zeros: Floats) -> tuple[Floats, Floats]:
    """Return weighted pairs of a one and a zero: those ordered rightly, ties half; and all."""
    order = np.argsort(score, kind="stable")
    starts = np.unique(score[order], return_index=True)[1]
    ones, zeros = (np.add.reduceat(part[order], starts) for part in (ones, zeros))
    below = np.cumsum(zeros, axis=0) - zeros
    return (ones * (below + 0.5 * zeros)).sum(axis=0), ones.sum(axis=0) * zeros.sum(axis=0)


def _td_auc(observed: Observed, predicted: Prediction, weights: Floats, grid: Grid) -> Floats:
    """Time-dependent AUC; what a patient stands for is that of all patients."""
    right, pairs = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for seen in statuses(observed, grid):
        if seen is not None:
            each = weights * seen.weights[:, None]
            found = _ranked(predicted.value, each * seen.cases[:, None], each * seen.free[:, None])
            right, pairs = right + found[0], pairs + found[1]
    return np.asarray(right / pairs)


def _ibs(observed: Observed, predicted: Prediction, weights: Floats, grid: Grid) -> Floats:
    """Integrated Brier score; what a patient stands for is that of all patients."""
    seen = statuses(observed, grid)
    if predicted.survival is None or any(status is None for status in seen):
        return np.full(weights.shape[1], np.nan)
    each = np.zeros(len(observed.value))
    shares = time_weights(np.asarray(grid))
    for status, survival, share in zip(seen, predicted.survival.T, shares, strict=True):
        if status is not None:
            each += share * status.weights * np.square(status.free - survival)
    return np.asarray(each @ weights / weights.sum(axis=0))


def _concordance(observed: Observed, predicted: Prediction, weights: Floats, _: Grid) -> Floats:
    """Harrell's concordance: the patient with the higher risk has the earlier event."""
    right, counted = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    risk, time, happened = predicted.value, observed.value, observed.event > 0.5
    events = np.flatnonzero(happened)
    for rows in np.array_split(events, 1 + events.size * len(risk) // PAIRS_AT_ONCE):
        later = (time > time[rows, None]) | ((time == time[rows, None]) & ~happened)
        ordered = (risk[rows, None] > risk) + 0.5 * (risk[rows, None] == risk)
        counted += (weights[rows] * (later.astype(np.float64) @ weights)).sum(axis=0)
        right += (weights[rows] * ((later * ordered) @ weights)).sum(axis=0)
    return np.asarray(right / counted)


_METRICS: dict[str, Metric] = {
    "mae": _mean(lambda value, predicted: np.abs(predicted - value)),
    "rmse": _rmse,
    "within_20": _mean(
        lambda value, predicted: (np.abs(predicted - value) <= 0.2 * np.abs(value)).astype(float)
    ),
    "accuracy": _mean(
        lambda value, predicted: ((predicted > 0.5) == (value > 0.5)).astype(np.float64)
    ),
    "brier": _mean(_square),
    "auc": _auc,
    "c_index": _concordance,
    "td_auc": _td_auc,
    "ibs": _ibs,
}
