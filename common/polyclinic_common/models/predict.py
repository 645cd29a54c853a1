"""What a model says about patients, in the units of the study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Encoding, inverse_transform
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Vector, logits
from polyclinic_common.rowwise import expit, row_sums
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, Survival


@dataclass(frozen=True)
class Prediction:
    """Predictions for n patients.

    Attributes
    ----------
    value : array of shape (n,)
        Continuous: outcome in the study's unit. Binary: probability. Survival: risk score (the
        higher, the earlier the event).
    survival : array of shape (n, K), or None
        Probability to be free of the event at the end of every interval of the grid.
    """

    value: NDArray[np.float64]
    survival: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Prediction:
        """Return the predictions for the patients that `rows` selects."""
        survival = None if self.survival is None else self.survival[rows]
        return Prediction(self.value[rows], survival)

    @staticmethod
    def concatenate(parts: list[Prediction]) -> Prediction:
        """Return all predictions of `parts`; without survival if one is without."""
        curves = [part.survival for part in parts if part.survival is not None]
        survival = np.concatenate(curves) if len(curves) == len(parts) else None
        return Prediction(np.concatenate([part.value for part in parts]), survival)


def predict(study: Study, encoding: Encoding, weights: Vector, x: Vector) -> Prediction:
    """Predict for encoded rows `x` of shape (n, width)."""
    return from_logits(study, logits(build_network(study, encoding), weights, x))


def from_logits(study: Study, scores: NDArray[np.float64]) -> Prediction:
    """Turn logits of shape (n, K) into predictions in the units of the study."""
    outcome = study.outcome
    if isinstance(outcome, Survival):
        risk = row_sums(scores) / scores.shape[1]
        return Prediction(risk, np.multiply.accumulate(expit(-scores), axis=1))  # in this order
    if isinstance(outcome, Continuous):
        return Prediction(inverse_transform(outcome, scores[:, 0]))
    return Prediction(expit(scores[:, 0]))
