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

Floats = NDArray[np.float64]
Metric = Callable[[Observed, Floats, Floats], Floats]
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
    observed: Observed, predicted: Floats, weights: Floats, metrics: Sequence[str]
) -> dict[str, list[float | None]]:
    """Return every metric in every resample; null where undefined, absent where not offered.

    Parameters
    ----------
    observed : Observed
        Of n patients.
    predicted : array of shape (n,)
        In the units of :func:`polyclinic_common.models.predict.predict`; NaN is left out.
    weights : array of shape (n, R)
        From :func:`patient_weights`.
    """
    known = ~np.isnan(observed.value) & ~np.isnan(predicted)
    if not known.any():
        return {}
    taken = observed.take(known), predicted[known], weights[known]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {key: _METRICS[key](*taken) for key in metrics if key in _METRICS}
    return {
        key: [float(value) if np.isfinite(value) else None for value in values]
        for key, values in found.items()
    }


def _mean(of: Callable[[Floats, Floats], Floats]) -> Metric:
    """Return the metric that is the mean over patients of a function of outcome and prediction."""

    def weighted(observed: Observed, predicted: Floats, weights: Floats) -> Floats:
        each = of(observed.value, predicted)
        return np.asarray(each @ weights / weights.sum(axis=0))

    return weighted


def _square(value: Floats, predicted: Floats) -> Floats:
    return np.square(predicted - value)


def _rmse(observed: Observed, predicted: Floats, weights: Floats) -> Floats:
    return np.sqrt(_mean(_square)(observed, predicted, weights))


def _auc(observed: Observed, predicted: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve by weighted ranks, ties counted half."""
    order = np.argsort(predicted, kind="stable")
    starts = np.unique(predicted[order], return_index=True)[1]
    positive = (observed.value > 0.5)[order, None]
    ones = np.add.reduceat(np.where(positive, weights[order], 0.0), starts)
    zeros = np.add.reduceat(np.where(positive, 0.0, weights[order]), starts)
    below = np.cumsum(zeros, axis=0) - zeros
    pairs = ones.sum(axis=0) * zeros.sum(axis=0)
    return np.asarray((ones * (below + 0.5 * zeros)).sum(axis=0) / pairs)


def _concordance(observed: Observed, risk: Floats, weights: Floats) -> Floats:
    """Harrell's concordance: the patient with the higher risk has the earlier event."""
    right, counted = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    time, happened = observed.value, observed.event > 0.5
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
}
