"""Metrics on test patients, exact because they are computed in simulation only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival
from polyclinic_simulations.results import METRICS, Metrics

Floats = NDArray[np.float64]


def score(study: Study, observed: Observed, predicted: Floats) -> Metrics:
    """Return every metric; null where undefined, or neither reported nor decided by."""
    known = ~np.isnan(observed.value) & ~np.isnan(predicted)
    value, event, predicted = observed.value[known], observed.event[known], predicted[known]
    scores: Metrics = dict.fromkeys(METRICS)
    if value.size == 0:
        return scores
    error = predicted - value
    for metric in {*study.metrics, study.deciding_metric}:
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
        elif metric == "auc":
            scores[metric] = auc(value, predicted)
        else:
            scores[metric] = _concordance(value, event, predicted)
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


def is_survival(study: Study) -> bool:
    """Whether the outcome is a survival time."""
    return isinstance(study.outcome, Survival)
