"""Metrics of weighted patients: exact where all weigh one, a resample where chance weighs them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.survival import time_weights
from polyclinic_common.evaluation.survival_scores import statuses
from polyclinic_common.models.predict import Prediction

Floats = NDArray[np.float64]
Grid = tuple[float, ...]
Weighted = Callable[[Observed, Prediction, Floats, Grid], Floats]
"""Gives a metric of n patients for R sets of weights, shape (n, R): shape (R,); NaN: undefined."""


PAIRS_AT_ONCE = 2_000_000


def mean(of: Callable[[Floats, Floats], Floats]) -> Weighted:
    """Return the metric that is the mean over patients of a function of outcome and prediction."""

    def weighted(observed: Observed, predicted: Prediction, weights: Floats, _: Grid) -> Floats:
        each = of(observed.value, predicted.value)
        return np.asarray(each @ weights / weights.sum(axis=0))

    return weighted


def square(value: Floats, predicted: Floats) -> Floats:
    """Return squared errors."""
    return np.square(predicted - value)


def rmse(observed: Observed, predicted: Prediction, weights: Floats, grid: Grid) -> Floats:
    """Root-mean-square error."""
    return np.sqrt(mean(square)(observed, predicted, weights, grid))


def auc(observed: Observed, predicted: Prediction, weights: Floats, _: Grid) -> Floats:
    """Area under the ROC curve by weighted ranks, ties counted half."""
    positive = (observed.value > 0.5)[:, None]
    right, pairs = ranked(predicted.value, weights * positive, weights * ~positive)
    return np.asarray(right / pairs)


def ranked(score: Floats, ones: Floats, zeros: Floats) -> tuple[Floats, Floats]:
    """Return weighted pairs of a one and a zero: those ordered rightly, ties half; and all."""
    order = np.argsort(score, kind="stable")
    starts = np.unique(score[order], return_index=True)[1]
    ones, zeros = (np.add.reduceat(part[order], starts) for part in (ones, zeros))
    below = np.cumsum(zeros, axis=0) - zeros
    return (ones * (below + 0.5 * zeros)).sum(axis=0), ones.sum(axis=0) * zeros.sum(axis=0)


def td_auc(observed: Observed, predicted: Prediction, weights: Floats, grid: Grid) -> Floats:
    """Time-dependent AUC; what a patient stands for is that of all patients."""
    right, pairs = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for seen in statuses(observed, grid):
        if seen is not None:
            each = weights * seen.weights[:, None]
            found = ranked(predicted.value, each * seen.cases[:, None], each * seen.free[:, None])
            right, pairs = right + found[0], pairs + found[1]
    return np.asarray(right / pairs)


def ibs(observed: Observed, predicted: Prediction, weights: Floats, grid: Grid) -> Floats:
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


def concordance(observed: Observed, predicted: Prediction, weights: Floats, _: Grid) -> Floats:
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
