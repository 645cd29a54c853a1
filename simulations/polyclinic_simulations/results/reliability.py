"""Can probabilities be read as such? Observed against expected, and the calibration slope."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic_simulations.results.results import AtTime, Counted, Reliability

Floats = NDArray[np.float64]
Slope = tuple[float | None, float | None]
Model = Callable[[Floats], tuple[Floats, Floats]]  # mean and variance of a linear predictor
FIFTHS = 5
STEPS = 50
NEAR = 1e-10
LEAST_SPREAD = 1e-6
FARTHEST = 30.0
WORST_CONDITION = 1e12


def reliability_of_yes_or_no(happened: Floats, predicted: Floats) -> Reliability:
    """Compare 0/1 outcomes of n patients with their probabilities, both of shape (n,).

    The slope is that of a logistic regression on the logit: Cox, Two further applications of a
    model for binary regression (1958).
    """
    score = logit(predicted)
    slope, error = logistic_slope(score, happened, np.ones(len(score)))
    fifths = _fifths(predicted, happened, predicted, predicted * (1.0 - predicted))
    return Reliability(fifths=fifths, slope=slope, slope_error=error)


def reliability_of_hazards(
    happened: Floats,
    at_risk: Floats,
    hazards: Floats,
    score: Floats,
    by_time: Sequence[AtTime],
) -> Reliability:
    """Compare events with hazards over the intervals at risk: no censoring rule is needed.

    The slope is that of a Poisson regression of a patient's events on the score, given the expected
    ones: Crowson, Atkinson and Therneau, Assessing calibration of prognostic risk scores (2016).

    Parameters
    ----------
    happened, at_risk, hazards : array of shape (n, K)
        By patient and interval: event (0/1), at risk (0/1), predicted hazard.
    score : array of shape (n,)
        The model's risk score, the mean of the logits of the hazards.
    """
    seen = (happened * at_risk).sum(axis=1)
    expected = (hazards * at_risk).sum(axis=1)
    chance = (hazards * (1.0 - hazards) * at_risk).sum(axis=1)
    slope, error = poisson_slope(score, seen, expected)
    return Reliability(
        fifths=_fifths(score, seen, expected, chance),
        slope=slope,
        slope_error=error,
        by_time=list(by_time),
    )


def _fifths(ranking: Floats, seen: Floats, expected: Floats, chance: Floats) -> list[Counted]:
    """Add up over fifths of the patients in order of `ranking`; empty ones go."""
    groups = np.array_split(np.argsort(ranking, kind="stable"), FIFTHS)
    return [
        Counted(
            patients=len(group),
            expected=float(expected[group].sum()),
            observed=float(seen[group].sum()),
            variance=float(chance[group].sum()),
        )
        for group in groups
        if group.size
    ]


def logit(share: Floats) -> Floats:
    """Return the logit, clamped so that 0 and 1 stay finite."""
    inside = np.clip(share, 1e-12, 1.0 - 1e-12)
    return np.asarray(np.log(inside / (1.0 - inside)))


def logistic_slope(score: Floats, share: Floats, patients: Floats) -> Slope:
    """Return slope and standard error of logit(share) on `score`, intercept free; null if unfit.

    `share` is the observed share of `patients` in each row.
    """

    def model(linear: Floats) -> tuple[Floats, Floats]:
        mean = 1.0 / (1.0 + np.exp(-linear))
        return patients * mean, patients * mean * (1.0 - mean)

    return _slope(score, patients * share, np.zeros_like(score), model)


def poisson_slope(score: Floats, seen: Floats, expected: Floats) -> Slope:
    """Return slope and standard error of log events on `score`, given the expected events.

    A slope of 1 leaves the expected events as they are, up to a common factor.
    """

    def model(linear: Floats) -> tuple[Floats, Floats]:
        mean = np.exp(linear)
        return mean, mean

    inside = expected > 0.0
    score, seen = score[inside], seen[inside]
    return _slope(score, seen, np.log(expected[inside]) - score, model)


def _slope(score: Floats, seen: Floats, offset: Floats, model: Model) -> Slope:
    """Fit intercept and slope by Newton's method with steps of bounded length, from slope 1."""
    spread = float(score.std()) if score.size else 0.0
    if spread < LEAST_SPREAD:
        return None, None
    centre = float(score.mean())
    design = np.column_stack([np.ones_like(score), (score - centre) / spread])
    fitted = np.array([centre, spread])
    for _ in range(STEPS):
        mean, weight = model(np.clip(design @ fitted + offset, -FARTHEST, FARTHEST))
        information = design.T @ (weight[:, None] * design)
        if np.linalg.cond(information) > WORST_CONDITION:
            return None, None
        step = np.linalg.solve(information, design.T @ (seen - mean))
        fitted = fitted + step / max(1.0, float(np.linalg.norm(step)))
        if float(np.linalg.norm(step)) < NEAR:
            error = float(np.sqrt(np.linalg.inv(information)[1, 1]))
            return float(fitted[1]) / spread, error / spread
    return None, None
