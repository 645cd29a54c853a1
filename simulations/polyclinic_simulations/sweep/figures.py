"""What the report's plots need, as aggregates: no single patient is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.survival_scores import observed_survival, statuses
from polyclinic_common.models.predict import Prediction, predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.outcomes import Continuous, Survival
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.federation.observers import RoundHistory
from polyclinic_simulations.results.exact_metrics import score
from polyclinic_simulations.results.reliability import (
    reliability_of_hazards,
    reliability_of_yes_or_no,
)
from polyclinic_simulations.results.results import (
    AtTime,
    CalibrationBin,
    Figures,
    Reliability,
    RiskGroup,
    TimeCalibration,
)

Floats = NDArray[np.float64]
CALIBRATION_BINS = 5
JOINT_BINS = 24
RISK_GROUPS = ("low predicted risk", "medium predicted risk", "high predicted risk")


def make_figures(federation: Federation, weights: Vector, history: RoundHistory) -> Figures:
    """Return the plots' data of one trained model."""
    study = federation.study
    metric = federation.reported[0]
    x, observed, outcome = federation.x_test, federation.observed, study.outcome
    predictions = [predict(study, federation.encoding, model, x) for model in history.models]
    curve = [score(study, observed, prediction)[metric] for prediction in predictions]
    known = ~np.isnan(observed.value)
    prediction = predict(study, federation.encoding, weights, x[known])
    observed = observed.take(known)
    common = {"curve_rounds": history.rounds, "curve_values": curve}
    if isinstance(outcome, Survival):
        return Figures(
            **common,
            calibration=_survival_calibration(outcome, observed, prediction),
            risk_groups=_risk_groups(outcome, observed, prediction.value),
            times=_time_calibration(outcome, observed, prediction),
            reliability=_survival_reliability(federation, known, observed, prediction),
        )
    calibration = _calibration(observed.value, prediction.value)
    if not isinstance(outcome, Continuous):
        reliability = reliability_of_yes_or_no(observed.value, prediction.value)
        return Figures(**common, calibration=calibration, reliability=reliability)
    edges = np.linspace(*outcome.range, JOINT_BINS + 1)
    counts, _, _ = np.histogram2d(
        np.clip(observed.value, *outcome.range), prediction.value, bins=[edges, edges]
    )
    joint = [[int(count) for count in row] for row in counts]
    return Figures(**common, calibration=calibration, joint=joint, joint_range=outcome.range)


def _groups(ranking: Floats, count: int) -> list[NDArray[np.int64]]:
    """Cut patients into `count` groups of equal size in order of `ranking`; empty ones go."""
    return [
        group for group in np.array_split(np.argsort(ranking, kind="stable"), count) if group.size
    ]


def _calibration(value: Floats, predicted: Floats) -> list[CalibrationBin]:
    return [
        CalibrationBin(
            predicted=float(predicted[group].mean()),
            observed=float(value[group].mean()),
            patients=len(group),
        )
        for group in _groups(predicted, CALIBRATION_BINS)
    ]


def _survival_calibration(
    outcome: Survival, observed: Observed, prediction: Prediction
) -> list[CalibrationBin]:
    """Event probability by the middle time of the grid: predicted, and by Kaplan-Meier."""
    if prediction.survival is None:
        return []
    middle = (len(outcome.grid) - 1) // 2
    event_by_middle = 1.0 - prediction.survival[:, middle]
    return [
        CalibrationBin(
            predicted=float(event_by_middle[group].mean()),
            observed=1.0 - _kaplan_meier(observed, group, [outcome.grid[middle]])[0],
            patients=len(group),
        )
        for group in _groups(event_by_middle, CALIBRATION_BINS)
    ]


def _time_calibration(
    outcome: Survival, observed: Observed, prediction: Prediction
) -> list[TimeCalibration]:
    """Survival at every time of the grid, predicted and observed, by fifth of predicted risk."""
    if prediction.survival is None or observed.value.size == 0:
        return []
    fifths = _groups(prediction.value, CALIBRATION_BINS)
    overall = statuses(observed, outcome.grid)
    by_fifth = [statuses(_members(observed, group), outcome.grid) for group in fifths]
    found = []
    for index, time in enumerate(outcome.grid):
        predicted = prediction.survival[:, index]
        bins = [
            CalibrationBin(
                predicted=float(predicted[group].mean()), observed=seen, patients=len(group)
            )
            for group, within in zip(fifths, by_fifth, strict=True)
            if (seen := observed_survival(within[index])) is not None
        ]
        found.append(
            TimeCalibration(
                time=time,
                predicted=float(predicted.mean()),
                observed=observed_survival(overall[index]),
                fifths=bins,
            )
        )
    return found


def _members(observed: Observed, group: NDArray[np.int64]) -> Observed:
    return Observed(observed.value[group], observed.event[group])


def _survival_reliability(
    federation: Federation, known: NDArray[np.bool_], observed: Observed, prediction: Prediction
) -> Reliability | None:
    """Compare events with the hazards of the intervals that every patient was at risk in."""
    outcome, survival = federation.study.outcome, prediction.survival
    if not isinstance(outcome, Survival) or survival is None:
        return None
    happened, at_risk = (
        np.concatenate([getattr(site.test, name) for site in federation.sites])[known]
        for name in ("y", "mask")
    )
    before = np.column_stack([np.ones(len(survival)), survival[:, :-1]])
    hazards = 1.0 - survival / before
    everybody = np.arange(len(survival))
    seen = _kaplan_meier(observed, everybody, list(outcome.grid))
    by_time = [
        AtTime(time=time, predicted=float(1.0 - survival[:, k].mean()), observed=1.0 - seen[k])
        for k, time in enumerate(outcome.grid)
    ]
    return reliability_of_hazards(happened, at_risk, hazards, prediction.value, by_time)


def _risk_groups(outcome: Survival, observed: Observed, risk: Floats) -> list[RiskGroup]:
    times = [0.0, *outcome.grid]
    groups = _groups(risk, len(RISK_GROUPS))
    return [
        RiskGroup(
            name=name,
            times=times,
            survival=_kaplan_meier(observed, group, times),
            patients=len(group),
        )
        for name, group in zip(RISK_GROUPS, groups, strict=False)
    ]


def _kaplan_meier(observed: Observed, group: NDArray[np.int64], times: list[float]) -> list[float]:
    """Kaplan and Meier, Nonparametric estimation from incomplete observations (1958)."""
    from lifelines import KaplanMeierFitter  # noqa: PLC0415  (heavy)

    fitter = KaplanMeierFitter().fit(observed.value[group], observed.event[group])
    return [float(value) for value in fitter.survival_function_at_times(times)]
