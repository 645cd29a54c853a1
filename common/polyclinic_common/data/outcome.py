"""The one reading of an outcome: who has a known one, and which.

Training, scoring, the numbers of held-out patients and the check of a table all read it here. An
outcome outside its public range is unknown: a number that cannot be true is no outcome, and one
that is cut to the range would be another patient's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import inside
from polyclinic_common.data.values import as_number, as_words, column_or_missing
from polyclinic_common.study.outcomes import Binary, Continuous, Outcome

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ReadOutcome:
    """Outcomes of n patients, in the study's unit.

    Attributes
    ----------
    value : array of shape (n,)
        The number, 0 or 1, or the time; NaN where unknown.
    event : array of shape (n,)
        1 where the event happened (1 throughout unless the outcome is survival).
    known : array of shape (n,)
        Whether the outcome is known.
    """

    value: NDArray[np.float64]
    event: NDArray[np.float64]
    known: NDArray[np.bool_]


def read_outcome(outcome: Outcome, frame: pd.DataFrame) -> ReadOutcome:
    """Read the outcome of every row of a table in the contract's columns."""
    if isinstance(outcome, Continuous):
        value = as_number(column_or_missing(frame, outcome.column))
        return _read(value, np.ones(len(frame)), inside(value, outcome.range))
    if isinstance(outcome, Binary):
        column, answers = outcome.column, (outcome.positive, outcome.negative)
    else:
        column, answers = outcome.event, (outcome.occurred, outcome.censored)
    words = as_words(column_or_missing(frame, column), answers)
    first, known = (words == answers[0]).to_numpy(), words.isin(answers).to_numpy()
    if isinstance(outcome, Binary):
        return _read(first.astype(np.float64), np.ones(len(frame)), known)
    time = as_number(column_or_missing(frame, outcome.time))
    return _read(time, first.astype(np.float64), known & inside(time, outcome.bounds))


def _read(
    value: NDArray[np.float64], event: NDArray[np.float64], known: NDArray[np.bool_]
) -> ReadOutcome:
    return ReadOutcome(np.where(known, value, np.nan), event, known)
