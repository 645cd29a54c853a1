"""Predictions as tables and as JSON: one row a patient, in the units of the study."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polyclinic_common.bundle.predictor import Predicted, restricted_mean
from polyclinic_common.bundle.reasons import Reasons
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival

if TYPE_CHECKING:
    import pandas as pd

    from polyclinic_common.bundle.here import ModelHere

REMARKS = "remarks"


def columns_of(predicted: Predicted) -> dict[str, Vector]:
    """Return what is predicted, each of shape (n,), by what it is called with its unit."""
    outcome, made = predicted.study.outcome, predicted.prediction
    if isinstance(outcome, Continuous):
        return {f"predicted {outcome.column} ({outcome.unit})": made.value}
    if isinstance(outcome, Binary):
        return {f"probability of {outcome.column} = {outcome.positive}": made.value}
    curves = made.survival if made.survival is not None else np.empty((len(predicted), 0))
    columns = {
        f"event-free at {end:g} {outcome.unit}": curves[:, k] for k, end in enumerate(outcome.grid)
    }
    return columns | {mean_name(outcome): restricted_mean(outcome, curves)}


def mean_name(outcome: Survival) -> str:
    """Return what the restricted mean is called."""
    return f"mean time event-free within {outcome.grid[-1]:g} ({outcome.unit})"


def as_table(here: ModelHere, predicted: Predicted, patients: pd.Series | None) -> pd.DataFrame:
    """Return one row a patient: number, what is predicted, its interval, remarks."""
    import pandas as pd  # noqa: PLC0415

    number = {} if patients is None else {str(patients.name): patients.to_numpy()}
    intervals = {}
    if not isinstance(predicted.study.outcome, Survival):
        found = here.intervals(predicted)
        intervals = {
            "low": [math.nan if each is None else each.low for each in found],
            "high": [math.nan if each is None else each.high for each in found],
            "interval": ["" if each is None else each.how for each in found],
        }
    return pd.DataFrame(
        {**number, **columns_of(predicted), **intervals, REMARKS: remarks_of(predicted)}
    )


def remarks_of(predicted: Predicted) -> list[str]:
    """Return all that there is to say about every patient's values, in words."""
    return [" ".join(flag.words for flag in row) for row in predicted.flags]


def as_records(
    here: ModelHere, predicted: Predicted, patients: pd.Series | None, reasons: Reasons | None
) -> list[dict[str, Any]]:
    """Return one dictionary a patient, for JSON; None where no number is given."""
    columns, intervals = columns_of(predicted), here.intervals(predicted)
    curves = here.survival_intervals(predicted)
    return [
        {
            "patient": None if patients is None else str(patients.iloc[row]),
            "given": bool(predicted.given[row]),
            "prediction": {
                name: float(values[row]) if predicted.given[row] else None
                for name, values in columns.items()
            },
            "interval": None if intervals[row] is None else vars(intervals[row]),
            "intervals_in_time": [None if e is None else vars(e) for e in curves[row]],
            "flags": [vars(flag) for flag in predicted.flags[row]],
        }
        | _reasons_of(reasons if predicted.given[row] else None, row)
        for row in range(len(predicted))
    ]


def _reasons_of(reasons: Reasons | None, row: int) -> dict[str, Any]:
    """Return the reasons of one patient, and the number to which they are added."""
    if reasons is None:
        return {}
    return {
        "reasons": [vars(each) for each in reasons.table(row)],
        "reasons_add_to": {"base": reasons.outcome.base, "unit": reasons.outcome.unit},
    }


def headline_words(study: Study, predicted: Predicted, row: int = 0) -> tuple[str, ...]:
    """Say what is predicted for one patient, in lines for people."""
    if not predicted.given[row]:
        return ("No number is given: see what is not covered.",)
    outcome, made = study.outcome, predicted.prediction
    if isinstance(outcome, Continuous):
        return (f"{outcome.column}: {made.value[row]:.4g} {outcome.unit}",)
    if isinstance(outcome, Binary):
        chance = float(made.value[row])
        what = f"{outcome.column} = {outcome.positive}"
        return (f"{what}: {chance:.1%}, that is {per_hundred(chance)} of 100 patients like this",)
    curve = np.empty(0) if made.survival is None else made.survival[row]
    lines = [
        f"after {end:g} {outcome.unit}: {per_hundred(float(free))} of 100 are free of the event"
        for end, free in zip(outcome.grid, curve, strict=True)
    ]
    mean = float(restricted_mean(outcome, curve[None, :])[0])
    return (*lines, f"{mean_name(outcome)}: {mean:.4g}")


def per_hundred(probability: float) -> str:
    """Return a probability as so many of 100; below one and above 99 as that."""
    count = round(100.0 * probability)
    if 0.0 < probability < 0.01:
        return "fewer than 1"
    return "more than 99" if 0.99 < probability < 1.0 else str(count)
