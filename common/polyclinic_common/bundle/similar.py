r"""Patients of this hospital's own table who are like one patient, in the eyes of a model.

Two patients are as far apart as the last things that the score weighs of them: a score is
:math:`\sum_j w_j z_j`, with z the encoded row of a linear model and the last hidden layer's
activations otherwise, and the distance is the Euclidean one between :math:`|w_j| z_j`. What the
model does not weigh makes nobody unlike. Treatment and hospital count as missing for everybody:
patients are compared, and their treatments are told.

Only summaries of five patients or more come out, and never a patient number. Nothing here is a
release: there is no kind of release for it, and no way out of the hospital.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.bundle.outcome_words import event_in_words, in_words
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.outcome import ReadOutcome, read_outcome
from polyclinic_common.data.values import as_number, as_text, as_words, column_or_missing
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Vector, cut
from polyclinic_common.rowwise import tanh, weighted_sums
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Arms, Binary, Continuous, Survival

if TYPE_CHECKING:
    import pandas as pd

FEWEST, MOST = 5, 20
SHARE = 0.1  # of the table's patients: nearest means little where it is half of them
MOST_COMPARED = 500  # patients of the table among whom the usual distance is measured
MOST_TIMES = 4  # of a survival curve
STEPS = 50  # in which a range is rounded: a median of five patients is the value of one
LIKENESS = (
    (0.25, "very much like this one"),
    (0.6, "like this one"),
    (1.0, "somewhat like this one, about as patients here usually are like each other"),
    (np.inf, "hardly like this one: nobody here is much like this patient"),
)
"""Distance of the neighbours over the usual distance between two patients, up to which it is so."""


class Line(NamedTuple):
    """One line of a summary: of what or whom, and what is so."""

    of: str
    words: str


@dataclass(frozen=True)
class Similar:
    """The nearest patients, summarised.

    Attributes
    ----------
    patients : int
        How many they are; 0 where too few are in the table to say.
    likeness : str
        How alike they are, in words.
    treatments, outcomes : tuple of Line
        Which treatments they had, and what became of them.
    """

    patients: int
    likeness: str
    treatments: tuple[Line, ...] = ()
    outcomes: tuple[Line, ...] = ()


TOO_FEW = Similar(0, f"Too few patients to say: a summary takes {FEWEST} at least.")


class OwnPatients:
    """The patients of a hospital's own table, in the space that a model weighs.

    Parameters
    ----------
    study : Study
        The model's study.
    weights : array of shape (d,)
        Its weights.
    table : DataFrame of n rows
        The table, in the contract's columns.
    """

    def __init__(self, study: Study, weights: Vector, table: pd.DataFrame):
        self._study, self._weights, self._table = study, weights, table
        self._encoding = Encoding(study)
        self._weighed = self._weigh(table)

    def like(self, patient: pd.DataFrame) -> Similar:
        """Return those nearest to the one patient of a table in the contract's columns."""
        distance = np.linalg.norm(self._weighed - self._weigh(patient), axis=1)
        rows = _nearest(as_text(self._table[self._study.cohort.patient_id]), distance)
        if len(rows) < FEWEST:
            return TOO_FEW
        found = self._table.iloc[rows]
        return Similar(
            len(rows),
            _likeness(float(np.median(distance[rows])), self._weighed),
            _treatments(self._study, found),
            _outcomes(self._study, found),
        )

    def _weigh(self, frame: pd.DataFrame) -> Matrix:
        """Return patients, of whom no treatment and no hospital is known, as `weighed`."""
        treatment = self._study.treatment
        if treatment is not None:
            frame = frame.drop(columns=[treatment.column], errors="ignore")
        x = self._encoding.encode_features(frame, None)
        return weighed(self._study, self._encoding, self._weights, x)


def weighed(study: Study, encoding: Encoding, weights: Vector, x: Matrix) -> Matrix:
    """Return encoded rows, shape (n, width), in the space that the model weighs, shape (n, w)."""
    network = build_network(study, encoding)
    layers, read = cut(network, weights), network.reads(x)[:, :-1]
    for matrix, bias in layers.hidden:
        read = tanh(weighted_sums(read, matrix) + bias)
    return read * np.abs(layers.last)


def _nearest(numbers: pd.Series, distance: Vector) -> NDArray[np.int64]:
    """Return the nearest row of every patient, of the nearest tenth of them: five to twenty."""
    order = np.argsort(distance, kind="stable")
    first = ~numbers.iloc[order].duplicated().to_numpy()
    count = int(np.clip(SHARE * np.count_nonzero(first), FEWEST, MOST))
    return order[first][:count]


def _likeness(near: float, others: Matrix) -> str:
    """Say how alike patients at a distance are, measured by what is usual in the table."""
    some = others[np.linspace(0, len(others) - 1, min(len(others), MOST_COMPARED)).astype(int)]
    usual = float(np.median(_between(some)))
    if usual == 0.0:
        return "not told apart: the model sees most patients here as the same"
    return next(words for most, words in LIKENESS if near / usual <= most)


def _between(rows: Matrix) -> Vector:
    """Return the distance of every pair of rows."""
    from scipy.spatial.distance import pdist  # noqa: PLC0415

    return np.asarray(pdist(rows), dtype=np.float64)


def _treatments(study: Study, found: pd.DataFrame) -> tuple[Line, ...]:
    treatment = study.treatment
    if treatment is None:
        return ()
    values = column_or_missing(found, treatment.column)
    if not isinstance(treatment, Arms):
        return (
            Line(
                in_words(treatment.column),
                _middle(as_number(values), treatment.unit, treatment.range),
            ),
        )
    words = as_words(values, treatment.arms)
    counted = ((arm, int((words == arm).sum())) for arm in treatment.arms)
    return tuple(Line(_with(treatment, arm), f"{count} of {len(found)}") for arm, count in counted)


def _with(treatment: Arms, arm: str) -> str:
    return f"{in_words(treatment.column)}: {dict(treatment.labels).get(arm, arm)}"


def _outcomes(study: Study, found: pd.DataFrame) -> tuple[Line, ...]:
    """Summarise outcomes of all, and by arm where every arm among them has five patients."""
    lines, treatment = [Line("All of them", _outcome(study, found))], study.treatment
    if isinstance(treatment, Arms):
        words = as_words(column_or_missing(found, treatment.column), treatment.arms)
        sizes = words.value_counts()
        if len(sizes) > 1 and sizes.min() >= FEWEST and sizes.sum() == len(found):
            arms = [arm for arm in treatment.arms if arm in sizes.index]
            lines += [
                Line(_with(treatment, arm), _outcome(study, found[(words == arm).to_numpy()]))
                for arm in arms
            ]
    return tuple(lines)


def _outcome(study: Study, found: pd.DataFrame) -> str:
    outcome, seen = study.outcome, read_outcome(study.outcome, found)
    known = int(seen.known.sum())
    if known < FEWEST:
        return "too few with a known outcome to say"
    if isinstance(outcome, Continuous):
        return _middle(seen.value[seen.known], outcome.unit, outcome.range)
    if isinstance(outcome, Binary):
        having = int(np.nansum(seen.value))
        return f"{event_in_words(study)} in {having} of {known}"
    return f"free of {event_in_words(study)}: {_event_free(outcome, seen)}"


def _middle(values: Vector, unit: str, bounds: tuple[float, float]) -> str:
    """Return median and middle half of numbers, rounded to a fiftieth of their public range."""
    values = values[np.isfinite(values)]
    if len(values) < FEWEST:
        return "too few known to say"
    step = 10.0 ** np.floor(np.log10((bounds[1] - bounds[0]) / STEPS))
    low, middle, high = np.round(np.quantile(values, [0.25, 0.5, 0.75]) / step) * step
    return f"half of them between {low:g} and {high:g} {unit}, in the middle {middle:g}"


def _event_free(outcome: Survival, seen: ReadOutcome) -> str:
    """Return the share without event at times of the grid, by Kaplan and Meier (JASA 53, 1958)."""
    from scipy.stats import CensoredData, ecdf  # noqa: PLC0415

    time, event = seen.value[seen.known], seen.event[seen.known] == 1.0
    curve = ecdf(CensoredData(uncensored=time[event], right=time[~event])).sf
    count = min(MOST_TIMES, len(outcome.grid))
    ends = [outcome.grid[(k + 1) * len(outcome.grid) // count - 1] for k in range(count)]
    shares = [
        f"{100.0 * float(curve.evaluate(np.array([end]))[0]):.0f} of 100 at {end:g} {outcome.unit}"
        for end in ends
        if end <= time.max()
    ]
    return ", ".join(shares) or "nobody was followed long enough to say"
