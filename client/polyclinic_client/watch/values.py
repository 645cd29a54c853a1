"""What stands in a column, or in all columns of a panel, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import inside
from polyclinic_common.data.values import as_text, as_words, column_or_missing, read_numbers
from polyclinic_common.data.vocabulary import understood
from polyclinic_common.study.columns import Declared

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Values:
    """A column of n rows.

    Attributes
    ----------
    value : array of shape (n,)
        Numbers (NaN where there is none), the row's mean of a panel; or words, None where there is
        none that the study knows.
    missing, odd, outside : array of shape (n,)
        Whether there is no value, one that the study does not understand, or one outside the
        public range. Of a panel: no value in most columns, such a value in any.
    """

    value: NDArray[np.float64] | NDArray[np.object_]
    missing: Bools
    odd: Bools
    outside: Bools

    def __len__(self) -> int:
        return len(self.missing)

    @property
    def numbers(self) -> Floats:
        """The numbers that are there."""
        value = self.value.astype(np.float64)
        return value[~np.isnan(value)]

    @property
    def words(self) -> NDArray[np.object_]:
        """The words that are there."""
        there = np.array([each is not None for each in self.value], dtype=np.bool_)
        return self.value[there].astype(object)

    def latest(self, rows: int) -> Values:
        """Return the last so many rows."""
        at = slice(len(self) - rows, None)
        return Values(self.value[at], self.missing[at], self.odd[at], self.outside[at])


def read_values(declared: Declared, frame: pd.DataFrame) -> Values:
    """Return what stands in a column of a table in the contract's columns."""
    columns = [column_or_missing(frame, column) for column in declared.columns]
    return (
        _numbers(declared, columns) if declared.bounds is not None else _words(declared, *columns)
    )


def _numbers(declared: Declared, columns: list[pd.Series]) -> Values:
    read = [read_numbers(column) for column in columns]
    numbers = np.column_stack([each for each, _ in read])
    present = np.column_stack([there for _, there in read])
    known = ~np.isnan(numbers)
    outside = known & ~inside(numbers, declared.bounds or (-np.inf, np.inf))
    count = known.sum(axis=1)
    mean = np.where(known, numbers, 0.0).sum(axis=1) / np.maximum(count, 1)
    return Values(
        np.where(count > 0, mean, np.nan),
        present.sum(axis=1) * 2 < len(columns),
        np.asarray((present & ~known).any(axis=1)),
        np.asarray(outside.any(axis=1)),
    )


def _words(declared: Declared, column: pd.Series) -> Values:
    import pandas as pd  # noqa: PLC0415

    words = as_words(column, declared.words) if declared.words else as_text(column)
    present = words.notna().to_numpy(dtype=np.bool_)
    distinct = pd.Index(words.dropna().unique())
    known = words.isin(understood(declared, distinct)).to_numpy(dtype=np.bool_)
    value = words.to_numpy(dtype=object, copy=True)
    value[~known] = None
    return Values(value, ~present, present & ~known, np.zeros(len(words), dtype=np.bool_))
