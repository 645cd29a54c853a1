r"""Columns that all but tell the outcome: known only after it, or made from it.

For the hospital alone (or a researcher's own table): nothing of it leaves. Every value column, and
every indicator of missing, is held against the outcome: yes or no by the area under the curve
(AUC), a number or a time by the rank correlation. Both have to reach `NEARLY`, and chance has to be
ruled out: the outcome is cut in two, the column where that tells most, and the probability under
permutation of the outcome that some cut of the column does as well is bounded by the number of
cuts times Fisher's exact tail. For m levels without an order there are 2^m cuts, so that many rare
levels prove nothing. Times the number of comparisons it must stay below `CHANCE`: a table of pure
noise, whatever its size, is warned about with at most this probability.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import indicators
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.genotype import diplotype_copies, hla_copies, snp_copies
from polyclinic_common.data.values import as_number, as_words, column_or_missing
from polyclinic_common.study.features import (
    Categorical,
    Diplotype,
    Feature,
    Hla,
    Numeric,
    Ordinal,
    Panel,
    Snp,
)
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival

if TYPE_CHECKING:
    import pandas as pd

NEARLY = 0.98
CHANCE = 1e-4
AUC, CORRELATION = "AUC", "rank correlation"
WHY = (
    "What is known only after the outcome, or was made from it, makes a model that looks perfect "
    "and is of no use for new patients."
)
WHAT_TO_DO = "If so, leave the column out of the study; else keep it."

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Leak:
    """A column that all but tells the outcome.

    Attributes
    ----------
    column, outcome : str
        The two columns.
    missing : bool
        Whether it is its being missing that tells.
    measure : str
        ``AUC`` or ``rank correlation``.
    strength : float
        Its value, from `NEARLY` to 1.
    patients : int
        Patients in whom both are known.
    """

    column: str
    outcome: str
    missing: bool
    measure: str
    strength: float
    patients: int

    @property
    def what(self) -> str:
        """How strongly which outcome is told."""
        part = "Whether it is missing" if self.missing else "Its value"
        return (
            f"{part} all but tells {self.outcome} ({self.measure} {self.strength:.3f} in "
            f"{self.patients} patients)."
        )

    def __str__(self) -> str:
        return f"{self.column}: {self.what} {WHY} {WHAT_TO_DO}"


@dataclass(frozen=True)
class _Column:
    """Numbers made of a column, NaN where unknown; of levels where `ordered` is false."""

    column: str
    values: Values
    ordered: bool = True
    missing: bool = False


@dataclass(frozen=True)
class _Target:
    """The outcome as a number, NaN where unknown: 0 and 1, or what can be ranked."""

    name: str
    values: Values
    measure: str


def find_leaks(study: Study, frame: pd.DataFrame) -> tuple[Leak, ...]:
    """Return the columns of a table, in the contract's columns, that all but tell the outcome.

    Parameters
    ----------
    frame : DataFrame of n rows
        One row a patient.
    """
    targets = list(_targets(study, frame))
    columns = list(_columns(study, frame))
    compared = len(columns) * len(targets)
    found = (_leak(c, target, compared) for c in columns for target in targets)
    return tuple(leak for leak in found if leak is not None)


def _leak(column: _Column, target: _Target, compared: int) -> Leak | None:
    known = ~(np.isnan(column.values) | np.isnan(target.values))
    values, outcome = column.values[known], target.values[known]
    if _is_constant(values) or _is_constant(outcome):
        return None
    ranks, cuts = mean_ranks(outcome), 2.0 * (len(np.unique(values)) - 1)
    if not column.ordered:
        values, levels = _by_level(values, ranks)
        cuts = 2.0 ** min(levels, 1000)
        if _is_constant(values):
            return None
    strength = strength_of(values, outcome, ranks, target.measure)
    if strength < NEARLY or compared * cuts * chance_of(values, in_two(outcome)) > CHANCE:
        return None
    return Leak(
        column.column, target.name, column.missing, target.measure, strength, int(known.sum())
    )


def _is_constant(values: Values) -> bool:
    return not len(values) or bool(values.min() == values.max())


def _by_level(values: Values, ranks: Values) -> tuple[Values, int]:
    """Return the mean rank of the outcome in each patient's level, and the number of levels."""
    _, level = np.unique(values, return_inverse=True)
    means = np.bincount(level, weights=ranks) / np.bincount(level)
    return means[level], len(means)


def mean_ranks(values: Values) -> Values:
    """Return the ranks of `values`, from 1; equal ones share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2.0)[place], dtype=np.float64)


def strength_of(values: Values, outcome: Values, ranks: Values, measure: str) -> float:
    """Return AUC (0.5 to 1) or rank correlation (0 to 1), whichever way the column points."""
    if measure == AUC:
        positive = outcome > outcome.min()
        yes, no = positive.sum(), (~positive).sum()
        auc = (mean_ranks(values)[positive].sum() - yes * (yes + 1) / 2) / (yes * no)
        return float(max(auc, 1.0 - auc))
    return float(min(abs(np.corrcoef(mean_ranks(values), ranks)[0, 1]), 1.0))


def in_two(outcome: Values) -> NDArray[np.bool_]:
    """Cut the outcome in two, as evenly as equal values allow."""
    values, count = np.unique(outcome, return_counts=True)
    below = np.cumsum(count)[:-1]
    return np.asarray(outcome > values[np.argmin(np.abs(2 * below - len(outcome)))])


def chance_of(values: Values, upper: NDArray[np.bool_]) -> float:
    """Return Fisher's exact tail for the cut of `values` that tells `upper` best.

    The probability that a random half as large as the part above the cut holds at least as many of
    `upper` (or, where the column points the other way, at most as many).
    """
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.diff(values[order])) + 1
    size, total = len(values), int(upper.sum())
    below = np.cumsum(upper[order])[ends - 1]
    best = int(np.argmax(np.abs(below - ends * total / size)))
    part, inside = int(ends[best]), int(below[best])
    if inside < part * total / size:  # count the others: the tail is the same, seen from there
        total, inside = size - total, part - inside
    return _upper_tail(size, total, part, inside)


def _upper_tail(size: int, total: int, part: int, inside: int) -> float:
    """Return P(X >= inside), X the marked among `part` of `size` of whom `total` are marked."""
    counts = np.arange(inside, min(part, total) + 1)
    logs = (
        _log_choices(total, counts)
        + _log_choices(size - total, part - counts)
        - _log_choices(size, np.array(part))
    )
    return float(min(np.exp(logs).sum(), 1.0))


def _log_choices(of: int, counts: NDArray[np.int64]) -> Values:
    from scipy.special import gammaln  # noqa: PLC0415  (heavy)

    return np.asarray(gammaln(of + 1.0) - gammaln(counts + 1.0) - gammaln(of - counts + 1.0))


def _targets(study: Study, frame: pd.DataFrame) -> Iterator[_Target]:
    """A survival outcome is two: whether the event occurred, and the time of follow-up."""
    outcome = study.outcome
    if isinstance(outcome, Binary):
        yield _answers(frame, outcome.column, outcome.positive, outcome.negative)
    elif isinstance(outcome, Continuous):
        yield _Target(outcome.column, as_number(frame[outcome.column]), CORRELATION)
    elif isinstance(outcome, Survival):
        yield _answers(frame, outcome.event, outcome.occurred, outcome.censored)
        yield _Target(outcome.time, as_number(frame[outcome.time]), CORRELATION)


def _answers(frame: pd.DataFrame, column: str, yes: str, no: str) -> _Target:
    words = as_words(frame[column], (yes, no)).to_numpy()
    known = np.where(words == yes, 1.0, np.where(words == no, 0.0, np.nan))
    return _Target(column, known, AUC)


def _columns(study: Study, frame: pd.DataFrame) -> Iterator[_Column]:
    """Return the columns of features and treatment, and whether they are missing.

    The hospital itself is left out.
    """
    for feature in Encoding(study).features:
        if feature.name == study.cohort.site:
            continue
        missing = set[str]()
        for column in _columns_of(feature, frame):
            yield column
            if column.column not in missing:
                yield replace(column, values=np.isnan(column.values) * 1.0, missing=True)
            missing.add(column.column)


@singledispatch
def _columns_of(feature: Feature, frame: pd.DataFrame) -> Iterator[_Column]:  # noqa: ARG001
    raise TypeError(type(feature).__name__)


@_columns_of.register(Numeric)
def _(feature: Numeric, frame: pd.DataFrame) -> Iterator[_Column]:
    yield _Column(feature.name, as_number(column_or_missing(frame, feature.name)))


@_columns_of.register(Categorical)
@_columns_of.register(Ordinal)
def _(feature: Categorical | Ordinal, frame: pd.DataFrame) -> Iterator[_Column]:
    known = indicators(column_or_missing(frame, feature.name), feature.levels)
    level = np.where(known[:, -1] == 1.0, np.nan, known.argmax(axis=1))
    yield _Column(feature.name, level, ordered=isinstance(feature, Ordinal))


@_columns_of.register(Snp)
def _(feature: Snp, frame: pd.DataFrame) -> Iterator[_Column]:
    yield _Column(feature.name, snp_copies(feature, column_or_missing(frame, feature.name))[:, 0])


@_columns_of.register(Diplotype)
def _(feature: Diplotype, frame: pd.DataFrame) -> Iterator[_Column]:
    copies = diplotype_copies(feature, column_or_missing(frame, feature.name))
    for values in copies.T:
        yield _Column(feature.name, values)


@_columns_of.register(Hla)
def _(feature: Hla, frame: pd.DataFrame) -> Iterator[_Column]:
    for values in hla_copies(feature, column_or_missing(frame, feature.name)).T:
        yield _Column(feature.name, values)


@_columns_of.register(Panel)
def _(feature: Panel, frame: pd.DataFrame) -> Iterator[_Column]:
    for column in feature.columns:
        yield _Column(column, as_number(column_or_missing(frame, column)))
