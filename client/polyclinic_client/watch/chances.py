"""Outcomes that the model made a statement about, one by one in the order of the table's rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.bundle.conformal import on_scale
from polyclinic_common.data.encoding import encode_outcome
from polyclinic_common.data.outcome import ReadOutcome, read_outcome
from polyclinic_common.data.values import as_text, column_or_missing
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, outcome_columns

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
NEAREST = 1e-6
"""How near to 0 and 1 a predicted risk may come; a certain prediction cannot be judged."""


@dataclass(frozen=True)
class Chances:
    """m outcomes, each with what the model says of it.

    Attributes
    ----------
    seen : array of shape (m,)
        0 or 1; or how far an outcome lies above its prediction on the scale of the model, in
        released standard errors.
    risk : array of shape (m,), or None
        Predicted probability of 1; None for numbers, where the model says that residuals lie above
        as often and as far as below.
    score : array of shape (m,)
        What patients are ranked by: the more, the likelier 1, or the larger the number.
    owner : array of shape (m,)
        Which patient with a known outcome each belongs to, counted from 0, in the order of rows.
    """

    seen: Floats
    risk: Floats | None
    score: Floats
    owner: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def surprise(self) -> Floats:
        """Seen minus expected."""
        return self.seen if self.risk is None else self.seen - self.risk

    @property
    def variance(self) -> Floats:
        """Variance of each outcome, if the model is right."""
        return self.seen**2 if self.risk is None else self.risk * (1.0 - self.risk)

    def until(self, patients: int) -> int:
        """Return how many chances the first so many patients have."""
        return int(np.searchsorted(self.owner, patients))

    def first(self, count: int) -> Chances:
        """Return the first so many."""
        risk = None if self.risk is None else self.risk[:count]
        return replace(
            self,
            seen=self.seen[:count],
            risk=risk,
            score=self.score[:count],
            owner=self.owner[:count],
        )


@dataclass(frozen=True)
class Known:
    """What is known of n patients, and what is not.

    Attributes
    ----------
    judged : array of shape (n,)
        Whether a patient's outcome is known and the model gave a number.
    waiting : int
        Patients whose outcome is not known yet: they count neither as yes nor as no.
    unread : int
        Patients with an outcome that the study does not understand, or outside its range.
    unpredicted : int
        Patients with a known outcome for whom the model gives no number.
    chances : Chances
        The outcomes of those who are judged.
    outcome : ReadOutcome
        Outcomes of all.
    """

    judged: Bools
    waiting: int
    unread: int
    unpredicted: int
    chances: Chances
    outcome: ReadOutcome

    @property
    def patients(self) -> int:
        """How many are judged."""
        return int(self.judged.sum())


def known_of(
    study: Study, frame: pd.DataFrame, prediction: Prediction, given: Bools, error: float
) -> Known:
    """Return what is known of the patients of a table in the contract's columns.

    Survival: an interval of the grid counts for who was followed through it or had the event in it,
    with the model's hazard as its risk; times of follow-up that end earlier say nothing of later
    intervals (Tutz and Schmid, Modeling Discrete Time-to-Event Data (2016), section 3.2).

    Parameters
    ----------
    prediction : Prediction
        Of the n patients; anything where `given` is False.
    given : array of shape (n,)
        Whether the model gave a number.
    error : float
        Released standard error of a prediction, on the scale of the model: a root or logarithm is
        fitted there, and errors are skewed in the outcome's unit. Used for numbers alone.
    """
    outcome = read_outcome(study.outcome, frame)
    judged = outcome.known & given
    there = np.all(
        [
            as_text(column_or_missing(frame, each)).notna()
            for each in outcome_columns(study.outcome)
        ],
        axis=0,
    )
    counts = (
        int((~outcome.known & ~there).sum()),
        int((~outcome.known & there).sum()),
        int((outcome.known & ~given).sum()),
    )
    told = prediction.take(judged)
    if isinstance(study.outcome, Continuous):
        score = on_scale(study.outcome, told.value) / error
        residual = on_scale(study.outcome, outcome.value[judged]) / error - score
        chances = Chances(residual, None, score, np.arange(len(residual)))
        return Known(judged, *counts, chances, outcome)
    y, mask = encode_outcome(study.outcome, frame.loc[judged])
    risk = np.clip(_risks(told), NEAREST, 1.0 - NEAREST)
    owner, output = np.nonzero(mask)
    score = np.log(risk / (1.0 - risk))[:, 0] if told.survival is None else told.value
    chances = Chances(y[owner, output], risk[owner, output], score[owner], owner)
    return Known(judged, *counts, chances, outcome)


def _risks(told: Prediction) -> Floats:
    """Return the probability of each output: yes, or the event in an interval; shape (n, K)."""
    if told.survival is None:
        return told.value[:, None]
    free = np.column_stack([np.ones(len(told.survival)), told.survival])
    return np.asarray(1.0 - free[:, 1:] / np.maximum(free[:, :-1], np.finfo(float).tiny))
