"""Metrics on test patients, exact because they are computed in simulation only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polyclinic_common.data.table import as_number, as_text, column_or_missing
from polyclinic_common.study.features import Categorical, Ordinal
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Arms, Binary, Continuous, Survival
from polyclinic_simulations.results import METRICS, Metrics

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """Observed outcomes of n patients, in the study's unit.

    `value` is the outcome, 0/1, or the time; `event` is 1 where it happened (1 throughout unless
    the outcome is survival). A patient without a known outcome is NaN in `value`.
    """

    value: Floats
    event: Floats

    def take(self, rows: Rows) -> Observed:
        """Return the patients that `rows` selects."""
        return Observed(self.value[rows], self.event[rows])

    @staticmethod
    def concatenate(parts: list[Observed]) -> Observed:
        """Return all patients of `parts`."""
        return Observed(
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.event for part in parts]),
        )


def observe(study: Study, frame: pd.DataFrame) -> Observed:
    """Return the observed outcomes of a table in the contract's columns."""
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        value = as_number(column_or_missing(frame, outcome.column))
        return Observed(value, np.ones(len(frame)))
    column = outcome.column if isinstance(outcome, Binary) else outcome.event
    words = as_text(column_or_missing(frame, column)).to_numpy()
    if isinstance(outcome, Binary):
        yes, no = words == outcome.positive, words == outcome.negative
        value = np.where(yes, 1.0, np.where(no, 0.0, np.nan))
        return Observed(value, np.ones(len(frame)))
    event, censored = words == outcome.occurred, words == outcome.censored
    time = as_number(column_or_missing(frame, outcome.time))
    return Observed(np.where(event | censored, time, np.nan), event.astype(np.float64))


def score(study: Study, observed: Observed, predicted: Floats) -> Metrics:
    """Return every metric; null where undefined or not asked for by the study."""
    known = ~np.isnan(observed.value) & ~np.isnan(predicted)
    value, event, predicted = observed.value[known], observed.event[known], predicted[known]
    scores: Metrics = dict.fromkeys(METRICS)
    if value.size == 0:
        return scores
    error = predicted - value
    for metric in study.metrics:
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


def subgroup_rows(study: Study, frame: pd.DataFrame) -> dict[str, Rows]:
    """Return the rows of every subgroup that the study audits, by a readable name."""
    groups: dict[str, Rows] = {}
    for subgroup in study.subgroups:
        column = column_or_missing(frame, subgroup.column)
        if subgroup.cuts is None:
            words = as_text(column).to_numpy()
            for level in levels_of(study, subgroup.column):
                groups[f"{subgroup.column} = {level}"] = np.asarray(words == level)
            continue
        numbers = as_number(column)
        edges = (-np.inf, *subgroup.cuts, np.inf)
        for low, high in pairwise(edges):
            groups[_band(subgroup.column, low, high)] = (numbers >= low) & (numbers < high)
    return groups


def levels_of(study: Study, column: str) -> tuple[str, ...]:
    """Return the declared levels of a categorical column or of the arms."""
    for feature in study.cohort.features:
        if feature.name == column and isinstance(feature, Categorical | Ordinal):
            return feature.levels
    return study.treatment.arms if isinstance(study.treatment, Arms) else ()


def _band(column: str, low: float, high: float) -> str:
    if low == -np.inf:
        return f"{column} < {high:g}"
    return f"{column} ≥ {low:g}" if high == np.inf else f"{column} {low:g} to {high:g}"


def is_survival(study: Study) -> bool:
    """Whether the outcome is a survival time."""
    return isinstance(study.outcome, Survival)
