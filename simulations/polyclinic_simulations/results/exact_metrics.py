"""Metrics on test patients, exact because they are computed in simulation only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Survival
from polyclinic_common.study.sections import Metric
from polyclinic_simulations.results.results import METRICS, Metrics
from polyclinic_simulations.results.survival_scores import (
    integrated_brier,
    statuses,
    time_dependent_auc,
)

Floats = NDArray[np.float64]
HEADLINES_OF_YES_OR_NO: tuple[Metric, ...] = ("auc", "brier")
RARE = 0.2


def reported_metrics(study: Study, value: Floats) -> tuple[Metric, ...]:
    """Return the metrics that a simulation reports, the one that headlines first.

    The order is the study's, with two exceptions for a yes/no outcome: AUC and Brier score come
    first where the study names no metrics, and before an accuracy that always giving the same
    answer would reach for more than four patients of five.

    Parameters
    ----------
    value : array of shape (n,)
        Observed outcomes; NaN where unknown.
    """
    named = study.evaluation.metrics
    if not isinstance(study.outcome, Binary):
        return study.metrics
    share = float(np.nanmean(value)) if not np.isnan(value).all() else 0.5
    rare = min(share, 1.0 - share) < RARE
    if named is not None and not (rare and named[0] == "accuracy"):
        return study.metrics
    first = HEADLINES_OF_YES_OR_NO
    return (*first, *(metric for metric in study.metrics if metric not in first))


def score(study: Study, observed: Observed, prediction: Prediction) -> Metrics:
    """Return every metric; null where undefined, or neither reported nor decided by."""
    known = ~np.isnan(observed.value) & ~np.isnan(prediction.value)
    observed, prediction = observed.take(known), prediction.take(known)
    value, predicted = observed.value, prediction.value
    scores: Metrics = dict.fromkeys(METRICS)
    if value.size == 0:
        return scores
    if isinstance(study.outcome, Survival):
        return scores | _survival_scores(study, study.outcome.grid, observed, prediction)
    error = predicted - value
    headlines = HEADLINES_OF_YES_OR_NO if isinstance(study.outcome, Binary) else ()
    for metric in {*study.metrics, study.deciding_metric, *headlines}:
        if metric == "mae":
            scores[metric] = float(np.abs(error).mean())
        elif metric == "rmse":
            scores[metric] = float(np.sqrt(np.square(error).mean()))
        elif metric == "within_20":
            scores[metric] = float((np.abs(error) <= 0.2 * np.abs(value)).mean())
        elif metric == "accuracy":
            scores[metric] = float(((predicted > 0.5) == (value > 0.5)).mean())
        elif metric == "brier":
            scores[metric] = float(np.square(error).mean())
        else:
            scores[metric] = auc(value, predicted)
    return scores


def _survival_scores(
    study: Study, grid: tuple[float, ...], observed: Observed, prediction: Prediction
) -> Metrics:
    """Return the metrics of a survival study that are reported or decided by."""
    scores: Metrics = {}
    seen = statuses(observed, grid)
    for metric in {*study.metrics, study.deciding_metric}:
        if metric == "c_index":
            scores[metric] = _concordance(observed.value, observed.event, prediction.value)
        elif metric == "td_auc":
            scores[metric] = time_dependent_auc(seen, prediction.value)
        elif prediction.survival is not None:
            scores[metric] = integrated_brier(seen, prediction.survival, grid)
    return scores


def auc(value: Floats, predicted: Floats) -> float | None:
    """Area under the ROC curve by the rank-sum statistic, ties counted half."""
    positive = value > 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return None
    from scipy.stats import rankdata  # noqa: PLC0415  (heavy)

    rank_sum = rankdata(predicted)[positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _concordance(time: Floats, event: Floats, risk: Floats) -> float | None:
    """Harrell's concordance: the patient with the higher risk has the earlier event."""
    from lifelines.utils import concordance_index  # noqa: PLC0415  (heavy)

    try:
        return float(concordance_index(time, -risk, event))
    except ZeroDivisionError:
        return None
