"""Intervals from the errors that hospitals released with a model: approximate, and named so.

They hold for patients of all hospitals together, as far as noise lets anybody know.
"""

from __future__ import annotations

import math
import sys
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.bundle import conformal
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.interval import Interval, Intervals
from polyclinic_common.bundle.observed_rates import groups_of
from polyclinic_common.data.encoding import transform
from polyclinic_common.evaluation.statistic import survival_histogram
from polyclinic_common.study.outcomes import Continuous, Survival

if TYPE_CHECKING:
    from polyclinic_common.bundle.predictor import Predicted
    from polyclinic_common.evaluation.interval import Reading
    from polyclinic_common.evaluation.reading import GroupReading
    from polyclinic_common.evaluation.survival_reading import TimeReading

Floats = NDArray[np.float64]
LEVEL, READING_LEVEL = 0.9, 0.95  # of intervals for numbers; of everything that is released


def approximate(evaluation: Evaluation, predicted: Predicted) -> Intervals:
    """Return intervals that follow from what hospitals released of the model's errors.

    Numbers: the mean or root-mean-square error over everybody, errors taken as normal; with one
    width on the scale of the model, that of a prediction at the study's public typical value.
    Probabilities: the observed share in the released bin, with its released interval.
    """
    study, value = predicted.study, predicted.prediction.value
    everybody = evaluation.overall
    if everybody is None or isinstance(study.outcome, Survival):
        return (None,) * len(value)
    if isinstance(study.outcome, Continuous):
        return _from_errors(study.outcome, everybody, value)
    return _from_bins(everybody, value)


def approximate_survival(evaluation: Evaluation, predicted: Predicted) -> tuple[Intervals, ...]:
    """Return what hospitals released of the survival of patients of a like risk.

    By patient and time of the grid; None where nothing was released, or it is lost in the noise.
    """
    outcome, risk = predicted.study.outcome, predicted.prediction.value
    if not isinstance(outcome, Survival):
        raise TypeError(outcome.kind)
    everybody = evaluation.overall
    histogram = survival_histogram(predicted.study)
    known = {} if everybody is None else {each.end: each for each in everybody.times}
    made = [
        tuple(_at(known.get(end), group, f"{end:g} {outcome.unit}") for end in outcome.grid)
        for group in range(histogram.bins)
    ]
    return tuple(made[group] for group in groups_of(histogram.edges, risk))


def _at(time: TimeReading | None, group: int, when: str) -> Interval | None:
    if time is None or not time.by_risk or (observed := time.by_risk[group].observed) is None:
        return None
    words = "patients of all hospitals of a like predicted risk, {} were without the event at "
    return _released(observed, words + when)


def _from_errors(outcome: Continuous, everybody: GroupReading, value: Floats) -> Intervals:
    """Return intervals from a released error; of several, from the root-mean-square error."""
    rmse, mae = everybody.metrics.get("rmse"), everybody.metrics.get("mae")
    if rmse is not None:
        deviation, name = rmse.value, "root-mean-square error"
    elif mae is not None:
        # Of a normal error, E|e| = sigma sqrt(2 / pi).
        deviation, name = mae.value * float(np.sqrt(np.pi / 2.0)), "mean error"
    else:
        return (None,) * len(value)
    half = NormalDist().inv_cdf((1.0 + LEVEL) / 2.0) * deviation * _steepness(outcome)
    words = (
        f"{outcome.unit}, in about {LEVEL:.0%} of patients: from the {name} that all hospitals "
        "released, errors taken as normal; not measured in this hospital."
    )
    lows, highs = conformal.bounds(outcome, value, half)
    return tuple(
        Interval(low, high, LEVEL, "approximate", f"Approximate: {low:.3g} to {high:.3g} {words}")
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True)
    )


def _steepness(outcome: Continuous) -> float:
    """Return by how much the scale of the model rises with the outcome, at its typical value.

    An error counts as it would without the range's ends: only an interval itself ends there. At 0
    a root rises without bound; its steepness is then a number beyond every range.
    """
    least, greatest = transform(outcome, np.array(outcome.range))
    start = max(outcome.start, sys.float_info.min)
    rise = {"none": 1.0, "sqrt": 0.5 / math.sqrt(start), "log": 1.0 / start}[outcome.transform]
    return 2.0 * rise / float(greatest - least)


def _from_bins(everybody: GroupReading, value: Floats) -> Intervals:
    bins = everybody.calibration
    if not bins:
        return (None,) * len(value)
    made: list[Interval | None] = []
    for each in bins:
        words = (
            f"patients of all hospitals with a predicted probability of {each.low:.0%} to "
            f"{each.high:.0%}, {{}} had the outcome"
        )
        made.append(None if each.observed is None else _released(each.observed, words))
    edges = tuple(each.high for each in bins[:-1])
    return tuple(made[group] for group in groups_of(edges, np.nan_to_num(value)))


def _released(observed: Reading, words: str) -> Interval:
    said = f"{observed.value:.0%} ({observed.low:.0%} to {observed.high:.0%})"
    return Interval(
        observed.low,
        observed.high,
        READING_LEVEL,
        "approximate",
        f"Approximate: of {words.format(said)}, as they released with noise; not measured in this "
        "hospital.",
    )
