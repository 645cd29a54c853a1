"""Two columns of numbers that were probably exchanged: in the whole table, or in some rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import inside
from polyclinic_common.data.deviation import Deviation, toml
from polyclinic_common.data.misfits import source_of
from polyclinic_common.data.rules import Mapping
from polyclinic_common.data.values import as_number, as_text
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3  # rows that do not fit, from which on columns as a whole may be exchanged
LEAST_SHARE = 0.1
MOST_LEFT = 0.2


def settle_exchanged(
    study: Study, frame: pd.DataFrame, mapping: Mapping, found: Iterable[Deviation]
) -> tuple[Deviation, ...]:
    """Return `found` and what is exchanged; no other line then settles these columns' cells.

    A value that stands in another column is neither missing nor in another unit: a line that says
    so would leave the other half of the exchange in the table, and speak of the wrong cells after.
    """
    exchanged = tuple(_exchanged(study, frame, mapping))
    places = {each.place for each in exchanged}
    kept = (_without_lines(each) if each.place in places else each for each in found)
    return (*kept, *exchanged)


def _without_lines(deviation: Deviation) -> Deviation:
    return replace(deviation, lines=(), otherwise="Look first whether columns were exchanged.")


def _exchanged(study: Study, frame: pd.DataFrame, mapping: Mapping) -> Iterator[Deviation]:
    columns = [
        (each, as_number(frame[each.name]))
        for each in declared_columns(study)
        if each.bounds is not None and each.columns == (each.name,) and each.name in frame.columns
    ]
    out = [_outside(values, each) for each, values in columns]
    for a, b in combinations(range(len(columns)), 2):
        if not (out[a].any() or out[b].any()):
            continue
        (one, ones), (other, others) = columns[a], columns[b]
        both = ~np.isnan(ones) & ~np.isnan(others)  # a cell that nobody reads shows nothing
        now = (out[a] | out[b]) & both
        after = (_outside(others, one) | _outside(ones, other)) & both
        enough = now.sum() >= max(FEWEST, LEAST_SHARE * len(frame))
        measured = not _repeated(ones[out[a]]) and not _repeated(others[out[b]])
        if enough and measured and after.sum() <= MOST_LEFT * now.sum():
            yield from _whole(mapping, one, other, int(now.sum()))
        elif (rows := now & out[a] & out[b] & ~after).any():
            yield _some(study, frame, mapping, f"{one.name} and {other.name}", rows)


def _outside(values: NDArray[np.float64], declared: Declared) -> NDArray[np.bool_]:
    """Say which known values lie outside a column's public range."""
    bounds = declared.bounds or (-np.inf, np.inf)
    return ~np.isnan(values) & ~inside(values, bounds)


def _repeated(values: NDArray[np.float64]) -> bool:
    """Say whether one value is most of `values`: as codes are, and as a chance pair is not."""
    counts = np.unique(values, return_counts=True)[1]
    return bool(counts.size) and int(counts.max()) > max(2, len(values) / 2)


def _whole(mapping: Mapping, one: Declared, other: Declared, count: int) -> Iterator[Deviation]:
    for here, there in ((one, other), (other, one)):
        source = source_of(mapping, there.name)
        written = f"source = {toml(source)}"
        yield Deviation(
            here.name,
            f"{count} rows do not fit as they stand, and fit with the columns exchanged.",
            count,
            (),
            f"{here.name} and {there.name} are probably exchanged.",
            f"[columns.{toml(here.name)}]",
            () if here.name in mapping.columns else (written,),
            f"In both sections: {written} here, and the other way round there.",
        )


def _some(
    study: Study, frame: pd.DataFrame, mapping: Mapping, names: str, rows: NDArray[np.bool_]
) -> Deviation:
    numbers = as_text(frame[study.cohort.patient_id])[rows].dropna()
    out = dict.fromkeys((*mapping.patients.exclude, *map(str, numbers)))
    count = int(rows.sum())
    return Deviation(
        names.split(" and ", maxsplit=1)[0],
        f"{count} rows hold two values out of range that fit each other's column.",
        count,
        (),
        f"{names} are probably exchanged there.",
        "[patients]",
        (f"exclude = {toml(list(out))}",),
        "Better: exchange them in the extract.",
    )
