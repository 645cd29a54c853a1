"""What is observed of patients: outcomes in the study's unit, and the groups they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.data.outcome import read_outcome
from polyclinic_common.data.values import as_number, as_words, column_or_missing
from polyclinic_common.study.features import Categorical, Ordinal
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Arms

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """Observed outcomes of n patients, in the study's unit.

    `value` is the outcome, 0/1, or the time; `event` is 1 where it happened (1 throughout unless
    the outcome is survival). A patient without a known outcome is NaN in `value`.
    """

    value: Floats
    event: Floats

    def take(self, rows: Rows) -> Observed:
        """Return the patients that `rows` selects."""
        return Observed(self.value[rows], self.event[rows])

    @staticmethod
    def concatenate(parts: list[Observed]) -> Observed:
        """Return all patients of `parts`."""
        return Observed(
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.event for part in parts]),
        )


def observe(study: Study, frame: pd.DataFrame) -> Observed:
    """Return the observed outcomes of a table in the contract's columns."""
    read = read_outcome(study.outcome, frame)
    return Observed(read.value, read.event)


def held_out_cohort(encoding: Encoding, frame: pd.DataFrame, site: str) -> Cohort:
    """Return held-out patients of one site with what their predictions are compared with.

    `y` holds the outcome, whether the event happened, and membership (0/1) of every site and of
    every audited subgroup, in the order of :func:`subgroup_names`. `mask` is 1 where the outcome is
    known.
    """
    study, seen = encoding.study, observe(encoding.study, frame)
    known = np.isfinite(seen.value)
    sites = [np.full(len(frame), site == name) for name in study.roster.sites]
    groups = np.column_stack([*sites, *subgroup_rows(study, frame).values()])
    truth = np.column_stack([np.where(known, seen.value, 0.0), seen.event, groups])
    return Cohort(encoding.encode(frame, site).x, truth, known[:, None].astype(np.float64))


def subgroup_names(study: Study) -> list[tuple[int, str]]:
    """Return the audited subgroups: number of their declaration, and a readable name.

    The subgroups of one declaration share no patient.
    """
    names: list[tuple[int, str]] = []
    for index, subgroup in enumerate(study.subgroups):
        if subgroup.cuts is None:
            levels = levels_of(study, subgroup.column)
            names += [(index, f"{subgroup.column} = {level}") for level in levels]
        else:
            bands = pairwise((-np.inf, *subgroup.cuts, np.inf))
            names += [(index, _band(subgroup.column, low, high)) for low, high in bands]
    return names


def subgroup_rows(study: Study, frame: pd.DataFrame) -> dict[str, Rows]:
    """Return the rows of every subgroup that the study audits, in the order of their names."""
    rows: list[Rows] = []
    for subgroup in study.subgroups:
        column = column_or_missing(frame, subgroup.column)
        if subgroup.cuts is None:
            levels = levels_of(study, subgroup.column)
            words = as_words(column, levels).to_numpy()
            rows += [np.asarray(words == level) for level in levels]
        else:
            numbers = as_number(column)
            bands = pairwise((-np.inf, *subgroup.cuts, np.inf))
            rows += [(numbers >= low) & (numbers < high) for low, high in bands]
    return dict(zip((name for _, name in subgroup_names(study)), rows, strict=True))


def levels_of(study: Study, column: str) -> tuple[str, ...]:
    """Return the declared levels of a categorical column or of the arms."""
    for feature in study.cohort.features:
        if feature.name == column and isinstance(feature, Categorical | Ordinal):
            return feature.levels
    return study.treatment.arms if isinstance(study.treatment, Arms) else ()


def _band(column: str, low: float, high: float) -> str:
    if low == -np.inf:
        return f"{column} < {high:g}"
    return f"{column} ≥ {low:g}" if high == np.inf else f"{column} {low:g} to {high:g}"
