"""Metrics on test patients, exact because they are computed in simulation only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.contract import time_grid
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary
from polyclinic_common.study.sections import MetricName
from polyclinic_simulations.results.results import Metrics

Floats = NDArray[np.float64]
HEADLINES_OF_YES_OR_NO: tuple[MetricName, ...] = ("auc", "brier")
RARE = 0.2


def reported_metrics(study: Study, value: Floats) -> tuple[MetricName, ...]:
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
    value = observed.value
    scores: Metrics = dict.fromkeys(METRICS)
    if value.size == 0:
        return scores
    headlines = HEADLINES_OF_YES_OR_NO if isinstance(study.outcome, Binary) else ()
    for name in {*study.metrics, study.deciding_metric, *headlines}:
        scores[name] = METRICS[name].exact(observed, prediction, time_grid(study))
    return scores
