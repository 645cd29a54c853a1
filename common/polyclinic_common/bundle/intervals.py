"""How far a prediction can be trusted: an interval for every patient, and where it comes from.

Calibrated on patients of this hospital where there are such
(:mod:`polyclinic_common.bundle.local_calibration`); else from the errors that hospitals released,
and then called approximate. There is no interval for the effect of a treatment on one person.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.bundle import conformal
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.interval import Interval, Intervals
from polyclinic_common.bundle.local_calibration import (
    Bins,
    Curves,
    LocalCalibration,
    VennAbers,
    Width,
)
from polyclinic_common.bundle.observed_rates import groups_of, wilson
from polyclinic_common.bundle.released_errors import approximate, approximate_survival
from polyclinic_common.study.outcomes import Continuous, Survival

if TYPE_CHECKING:
    from polyclinic_common.bundle.predictor import Predicted

__all__ = ["Interval", "Intervals", "approximate", "intervals_for", "survival_intervals_for"]
Floats = NDArray[np.float64]


def intervals_for(
    predicted: Predicted, evaluation: Evaluation, local: LocalCalibration | None
) -> Intervals:
    """Return an interval for every patient's number or probability; None where there is none.

    Survival has an interval at every time, of :func:`survival_intervals_for`, and none here.

    Parameters
    ----------
    predicted : Predicted
        Predictions of the released model, or of the one recalibrated here where `local` says so.
    """
    found = approximate(evaluation, predicted) if local is None else _local(predicted, local)
    return tuple(
        each if given else None for each, given in zip(found, predicted.given, strict=True)
    )


def survival_intervals_for(
    predicted: Predicted, evaluation: Evaluation, local: LocalCalibration | None
) -> tuple[Intervals, ...]:
    """Return what was observed of patients of a like risk, by patient and time of the grid.

    None at a time of which too little is known, and throughout where no number was given.
    """
    outcome = predicted.study.outcome
    if not isinstance(outcome, Survival):
        raise TypeError(outcome.kind)
    unknown: Intervals = (None,) * len(outcome.grid)
    if local is None:
        found = approximate_survival(evaluation, predicted)
    else:
        found = _from_curves(local, outcome, predicted.prediction.value)
    return tuple(
        each if given else unknown for each, given in zip(found, predicted.given, strict=True)
    )


def _local(predicted: Predicted, local: LocalCalibration) -> Intervals:
    outcome, value = predicted.study.outcome, predicted.prediction.value
    match local.found:
        case Width(half_width=half) if isinstance(outcome, Continuous):
            return tuple(_from_width(local, outcome, half, value))
        case Bins() as bins:
            return tuple(_from_local_bins(local, bins, value))
        case VennAbers() as fits:
            return tuple(_from_fits(local, fits, value))
    return (None,) * len(value)


def _from_width(
    local: LocalCalibration, outcome: Continuous, half: float, value: Floats
) -> Iterator[Interval]:
    level = 1.0 - local.alpha
    words = (
        f"{outcome.unit}: of 100 patients of this hospital about {100 * level:.0f} lie within an "
        f"interval made like this one ({_basis(local)})."
    )
    lows, highs = conformal.bounds(outcome, value, half)
    for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
        yield Interval(low, high, level, "conformal", f"{low:.3g} to {high:.3g} {words}")


def _basis(local: LocalCalibration) -> str:
    who = f"measured on {local.patients} patients here whom the model was not trained on"
    return f"{who}; recalibrated here" if local.recalibrated else who


def _from_local_bins(local: LocalCalibration, bins: Bins, value: Floats) -> Iterator[Interval]:
    ends = (0.0, *bins.edges, 1.0)
    made = []
    for index, (patients, having) in enumerate(zip(bins.patients, bins.having, strict=True)):
        share = wilson(having / patients, patients, local.alpha)
        words = (
            f"Of {patients} patients here with a predicted probability of {ends[index]:.0%} to "
            f"{ends[index + 1]:.0%}, {having} had the outcome ({share.value:.0%}; "
            f"{1 - local.alpha:.0%} interval {share.low:.0%} to {share.high:.0%}; "
            f"{_basis(local)})."
        )
        made.append(Interval(share.low, share.high, 1.0 - local.alpha, "bins", words))
    return (made[group] for group in groups_of(bins.edges, value))


def _from_fits(local: LocalCalibration, fits: VennAbers, value: Floats) -> Iterator[Interval]:
    for low, high in zip(*fits.steps.at(value), strict=True):
        words = (
            f"Fitted to this hospital's patients, the probability is {low:.0%} if this patient "
            f"counts as one without the outcome, {high:.0%} as one with it ({_basis(local)}). "
            "This is no interval at a stated level: chance moves both together."
        )
        yield Interval(float(low), float(high), None, "venn-abers", words)


def _from_curves(local: LocalCalibration, outcome: Survival, risk: Floats) -> tuple[Intervals, ...]:
    found = local.found
    if not isinstance(found, Curves):
        return ((None,) * len(outcome.grid),) * len(risk)
    level = 1.0 - local.alpha
    basis = f"{level:.0%} interval; {_basis(local)}"
    made = []
    for patients, observed in zip(found.patients, found.observed, strict=True):
        times: list[Interval | None] = []
        for end, share in zip(outcome.grid, observed, strict=True):
            if share is None:
                times.append(None)
                continue
            words = (
                f"Of {patients} patients here of a like predicted risk, {share.value:.0%} "
                f"({share.low:.0%} to {share.high:.0%}) were without the event at {end:g} "
                f"{outcome.unit} ({basis})."
            )
            times.append(Interval(share.low, share.high, level, "bins", words))
        made.append(tuple(times))
    return tuple(made[group] for group in groups_of(found.edges, risk))
