"""What of each patient the model cannot read as it was meant: missing, clamped, not covered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import inside
from polyclinic_common.data.values import as_text, column_or_missing, read_numbers
from polyclinic_common.data.vocabulary import understood
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

Bools = NDArray[np.bool_]
FlagKind = Literal["missing", "clamped", "not covered"]
INPUTS = frozenset({"feature", "treatment"})


@dataclass(frozen=True)
class Flag:
    """Something about one patient's value.

    Attributes
    ----------
    column : str
        The column, or the panel.
    kind : {"missing", "clamped", "not covered"}
        No value, which the model knows how to read; a value outside the public range, which counts
        as the bound; something that the study does not know, for which there is no number.
    words : str
        The same in words, without the value.
    """

    column: str
    kind: FlagKind
    words: str


def inputs_of(study: Study) -> tuple[Declared, ...]:
    """Return what the model reads of a patient: features and treatment."""
    return tuple(each for each in declared_columns(study) if each.role in INPUTS)


def flag_rows(study: Study, frame: pd.DataFrame) -> tuple[tuple[Flag, ...], ...]:
    """Return the flags of every patient of a table in the contract's columns."""
    rows: list[list[Flag]] = [[] for _ in range(len(frame))]
    for declared in inputs_of(study):
        for kind, counts in _found(declared, frame):
            for row in np.flatnonzero(counts):
                rows[row].append(_flag(declared, kind, int(counts[row])))
    return tuple(map(tuple, rows))


def _found(declared: Declared, frame: pd.DataFrame) -> Iterator[tuple[FlagKind, NDArray[np.int64]]]:
    """Yield, kind by kind, in how many of its columns every row is flagged."""
    read = [_read(declared, column_or_missing(frame, column)) for column in declared.columns]
    kinds: tuple[FlagKind, ...] = ("missing", "clamped", "not covered")
    for index, kind in enumerate(kinds):
        yield kind, np.sum([found[index] for found in read], axis=0, dtype=np.int64)


def _read(declared: Declared, values: pd.Series) -> tuple[Bools, Bools, Bools]:
    if declared.bounds is not None:
        numbers, present = read_numbers(values)
        readable = ~np.isnan(numbers)
        return ~present, readable & ~inside(numbers, declared.bounds), present & ~readable
    words = as_text(values)
    present = words.notna().to_numpy(dtype=np.bool_)
    known = words.isin(understood(declared, _distinct(words))).to_numpy(dtype=np.bool_)
    return ~present, np.zeros(len(words), dtype=np.bool_), present & ~known


def _distinct(words: pd.Series) -> pd.Index:
    import pandas as pd  # noqa: PLC0415

    return pd.Index(words.dropna().unique())


def _flag(declared: Declared, kind: FlagKind, columns: int) -> Flag:
    name = declared.name
    if len(declared.columns) > 1:
        name = f"{columns} of the {len(declared.columns)} columns of {declared.name}"
    if kind == "missing":
        return Flag(declared.name, kind, f"{name}: no value.")
    if kind == "clamped":
        low, high = declared.bounds or (0.0, 0.0)
        bounds = f"{low:g} to {high:g} {declared.unit}".rstrip()
        return Flag(declared.name, kind, f"{name}: outside {bounds}; it counts as the bound.")
    known = f"number in {declared.unit}" if declared.bounds is not None else declared.what
    return Flag(declared.name, kind, f"{name}: not covered by the study ({known}).")
