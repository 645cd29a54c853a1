"""Why a model predicts what it predicts: a share of the prediction for every feature.

A prediction is told from that of the study's public typical patient by one number a feature; they
add up to the difference. For a linear score a feature's share is its weights times how far the
patient's encoded columns are from the typical patient's, which is exact. For hidden layers it is
the integrated gradient along the straight line between the two: Sundararajan, Taly and Yan,
Axiomatic Attribution for Deep Networks (2017), equation 1, by Gauss-Legendre quadrature.

What lies between score and outcome (inverse transform, the ends of the range) is one curve of one
number, ``h``. Shares pass through it in proportion, times ``(h(z) - h(z0)) / (z - z0)``: for a
linear score that is the integrated gradient of the outcome itself, in closed form; in general it
is the rescale rule of Shrikumar, Greenside and Kundaje, Learning Important Features Through
Propagating Activation Differences (2017), section 3.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.bundle.typical import typical_patient, typical_words
from polyclinic_common.bundle.value_words import feature_slices, values_in_words
from polyclinic_common.data.encoding import Encoding, inverse_transform
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.models.coefficients import scale_of
from polyclinic_common.models.head import build_network, head_of
from polyclinic_common.models.natural import outcome_scale
from polyclinic_common.models.score_head import (
    Matrix,
    Network,
    Vector,
    Weights,
    cut,
    logits,
    without_specks,
)
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Outcome, Survival

NODES = 32
PANELS = (1, 2, 4, 8, 16, 32, 64, 128)
COMPLETE = 1e-6
"""Largest part of a prediction that may stay without a feature, on the scale of the score."""
NEAR = 1e-7
"""Scores nearer to each other than this have the slope at their middle for that between them."""


@dataclass(frozen=True)
class Shares:
    """Contributions on one scale: ``base + contributions.sum(axis=1) == prediction``.

    It holds up to rounding, and up to `Reasons.remainder` with hidden layers.

    Attributes
    ----------
    unit : str
        What base, contributions and prediction are in.
    base : float
        Prediction for the reference, by default the public typical patient.
    contributions : array of shape (n, F)
        One number a patient and feature.
    prediction : array of shape (n,)
        Predictions for the patients.
    """

    unit: str
    base: float
    contributions: Matrix
    prediction: Vector


@dataclass(frozen=True)
class Reason:
    """A row of the table of reasons.

    Attributes
    ----------
    feature : str
        The study's name of the feature.
    value, typical : str
        What the model reads of the patient (levels by their labels), and what the public typical
        patient has.
    contribution : float
        How much the difference between the two adds to the prediction.
    unit, direction : str
        Unit of the contribution; what it does, such as ``raises the risk``.
    """

    feature: str
    value: str
    typical: str
    contribution: float
    unit: str
    direction: str


@dataclass(frozen=True)
class Bar:
    """A reason as a bar: `length` in [-1, 1], the longest bar of a patient is 1 long."""

    feature: str
    contribution: float
    length: float


@dataclass(frozen=True)
class Reasons:
    """Reasons for the predictions of n patients by F features.

    Attributes
    ----------
    features : tuple of str
        Names of the features, those of `Encoding.features`: treatment and site are among them.
    score : Shares
        On the scale that the model adds up on: the (transformed) unit of a continuous outcome,
        without the ends of its range; log odds; for survival the log odds of the event in an
        interval of the grid, averaged over all intervals (a contribution is that of each).
    outcome : Shares
        In the outcome's own unit, ends of the range included; for log odds the same as `score`.
    clamped : array of shape (n,), bool
        The score lies beyond the outcome's range, and the prediction is the range's end.
    remainder : array of shape (n,)
        What the quadrature left without a feature, on the scale of `score`: at most 1e-6.
    """

    study: Study
    x: Matrix
    features: tuple[str, ...]
    score: Shares
    outcome: Shares
    clamped: NDArray[np.bool_]
    remainder: Vector

    def table(self, patient: int = 0) -> tuple[Reason, ...]:
        """Return the reasons of one patient in the outcome's own unit, largest first."""
        encoding = Encoding(self.study)
        words = values_in_words(encoding, self.x[patient])
        typical, given = typical_words(encoding), self.outcome.contributions[patient]
        return tuple(
            Reason(
                feature=self.features[k],
                value=words[k],
                typical=typical[k],
                contribution=float(given[k]),
                unit=self.outcome.unit,
                direction=direction(self.study, float(given[k])),
            )
            for k in _largest_first(given)
        )

    def bars(self, patient: int = 0) -> tuple[Bar, ...]:
        """Return the reasons of one patient as bars, in the order of `table`."""
        given = self.outcome.contributions[patient]
        longest = float(np.max(np.abs(given))) or 1.0
        return tuple(
            Bar(self.features[k], float(given[k]), float(given[k]) / longest)
            for k in _largest_first(given)
        )


def _largest_first(given: Vector) -> list[int]:
    return [int(k) for k in np.argsort(-np.abs(given), kind="stable")]


def direction(study: Study, contribution: float) -> str:
    """Say in words what a contribution does to the prediction."""
    if contribution == 0.0:
        return "changes nothing"
    verb, outcome = "raises" if contribution > 0.0 else "lowers", study.outcome
    if isinstance(outcome, Survival):
        return f"{verb} the risk"
    if isinstance(outcome, Binary):
        return f"{verb} the probability of {outcome.column} = {outcome.positive}"
    return f"{verb} {outcome.column}"


def contributions(
    study: Study, weights: Vector, x: Matrix, reference: Vector | None = None
) -> Reasons:
    """Return what every feature contributes to the predictions for encoded patients.

    Parameters
    ----------
    study : Study
        The study that the model is of.
    weights : array of shape (d,)
        The model's weights.
    x : array of shape (n, width)
        Encoded rows, as `Encoding` and `Predictor` give them.
    reference : array of shape (width,), optional
        Encoded row that predictions are told from; default: the public typical patient.

    Raises
    ------
    ModelError
        M002 if the weights do not fit, the study's kind of model reads something else than the
        encoded columns, or hidden layers are so steep that their gradients do not add up.
    """
    encoding = Encoding(study)
    network = build_network(study, encoding)
    if not head_of(study).as_encoded:
        raise _refused(f"A {study.model.kind} model does not read the study's columns one by one.")
    start = typical_patient(encoding) if reference is None else reference
    half, middle = outcome_scale(study.outcome)
    base, found = (half * _score(network, weights, rows) + middle for rows in (start[None, :], x))
    shares = half * _by_column(cut(network, without_specks(weights)), start, x, COMPLETE / half)
    parts = np.column_stack([shares[:, part].sum(axis=1) for part in feature_slices(encoding)])
    score = Shares(scale_of(study.outcome), float(base[0]), parts, found)
    remainder = found - base[0] - parts.sum(axis=1)
    if np.any(np.abs(remainder) > COMPLETE):
        raise _refused("Its hidden layers are so steep that contributions do not add up.")
    return Reasons(
        study=study,
        x=x,
        features=tuple(feature.name for feature in encoding.features),
        score=score,
        outcome=_on_outcome(study.outcome, score),
        clamped=_beyond(study.outcome, found),
        remainder=remainder,
    )


def _refused(what: str) -> ModelError:
    return ModelError(
        Code.MODEL_SHAPE,
        f"Reasons cannot be given for this model. {what}",
        "Read the prediction without reasons, and say so where it is used.",
    )


def _score(network: Network, weights: Vector, x: Matrix) -> Vector:
    """Return the mean over all outputs of the logits, shape (n,)."""
    return np.asarray(logits(network, weights, x).mean(axis=1))


def _by_column(layers: Weights, start: Vector, x: Matrix, tolerance: float) -> Matrix:
    """Return what every encoded column adds to the score, shape (n, width - 1).

    Panels of nodes are doubled for those patients alone whose contributions do not add up to
    `tolerance` yet.
    """
    step = x[:, :-1] - start[:-1]
    if not layers.hidden:
        return step * layers.last
    (matrix, bias), *deeper = layers.hidden
    first, moved = matrix @ start[:-1] + bias, step @ matrix.T
    wanted = _deeper_score(deeper, layers.last, first + moved)
    wanted = wanted - _deeper_score(deeper, layers.last, first[None, :])
    found, left = np.zeros_like(moved), np.ones(len(x), dtype=np.bool_)
    for panels in PANELS:
        found[left] = _mean_slopes(deeper, layers.last, first, moved[left], panels)
        left = np.abs((found * moved).sum(axis=1) - wanted) > tolerance / 10.0
        if not left.any():
            break
    return step * (found @ matrix)


def _deeper_score(deeper: list[tuple[Matrix, Vector]], last: Vector, read: Matrix) -> Vector:
    """Return the score by what the first hidden layer reads, shape (n, units)."""
    active = np.tanh(read)
    for matrix, bias in deeper:
        active = np.tanh(active @ matrix.T + bias)
    return np.asarray(active @ last)


def _slopes(deeper: list[tuple[Matrix, Vector]], last: Vector, read: Matrix) -> Matrix:
    """Return the derivatives of the score by what the first hidden layer reads, (n, units)."""
    active = [np.tanh(read)]
    for matrix, bias in deeper:
        active.append(np.tanh(active[-1] @ matrix.T + bias))
    slope = last * (1.0 - active[-1] ** 2)
    for (matrix, _), values in zip(reversed(deeper), reversed(active[:-1]), strict=True):
        slope = (slope @ matrix) * (1.0 - values**2)
    return slope


def _mean_slopes(
    deeper: list[tuple[Matrix, Vector]], last: Vector, first: Vector, moved: Matrix, panels: int
) -> Matrix:
    """Return the mean of `_slopes` along the line from `first` on by `moved`, shape (n, units)."""
    nodes, shares = np.polynomial.legendre.leggauss(NODES)
    total = np.zeros_like(moved)
    for panel in range(panels):
        for node, share in zip(nodes, shares, strict=True):
            place = (panel + (node + 1.0) / 2.0) / panels
            total += share / (2.0 * panels) * _slopes(deeper, last, first + place * moved)
    return total


def _beyond(outcome: Outcome, scores: Vector) -> NDArray[np.bool_]:
    """Say which scores lie beyond the (transformed) range of the outcome."""
    half, middle = outcome_scale(outcome)
    if not isinstance(outcome, Continuous):
        return np.zeros(len(scores), dtype=np.bool_)
    return np.abs(scores - middle) > half


def _on_outcome(outcome: Outcome, score: Shares) -> Shares:
    """Return shares in the outcome's own unit: those of the score times the slope of a chord."""
    if not isinstance(outcome, Continuous):
        return score
    half, middle = outcome_scale(outcome)
    ends = np.append(score.prediction, score.base)
    values = inverse_transform(outcome, (ends - middle) / half)
    moved = score.prediction - score.base
    near = np.abs(moved) < NEAR
    chord = (values[:-1] - values[-1]) / np.where(near, 1.0, moved)
    slope = np.where(near, _slope(outcome, score.base + moved / 2.0), chord)
    return Shares(
        outcome.unit, float(values[-1]), score.contributions * slope[:, None], values[:-1]
    )


def _slope(outcome: Continuous, scores: Vector) -> Vector:
    """Return the derivative of the outcome by the score: 0 beyond its range."""
    half, middle = outcome_scale(outcome)
    inside = np.clip(scores, middle - half, middle + half)
    slope = np.exp(inside) if outcome.transform == "log" else 2.0 * inside
    slope = np.ones_like(inside) if outcome.transform == "none" else slope
    return np.where(_beyond(outcome, scores), 0.0, slope)
