"""Newer patients' values against this hospital's own table of the study, column by column.

Every column is looked at in all newer rows, in the latest 200 and in the latest 30, so that what
has changed of late is not drowned in what was before. What counts as found is both a discovery
(:mod:`polyclinic_client.watch.discoveries`) and large enough to matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.watch.budget import INPUTS
from polyclinic_client.watch.discoveries import distance, levels, shares, yekutieli
from polyclinic_client.watch.finding import Finding
from polyclinic_client.watch.values import Values, read_values
from polyclinic_common.bundle.flags import inputs_of
from polyclinic_common.data.units import Conversion, conversions_to
from polyclinic_common.study.columns import Declared
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LATEST = (200, 30)
Kind = Literal["values", "missing", "not understood", "out of range"]
LARGE: dict[Kind, float] = {
    "values": 0.1,
    "missing": 0.05,
    "not understood": 0.05,
    "out of range": 0.05,
}
"""Least change that matters: distance of distributions, or difference of shares."""
FITS = 0.5  # a unit explains where it takes at least half of the distance away


@dataclass(frozen=True)
class ColumnTest:
    """One test of one column.

    Attributes
    ----------
    column : str
        The column, or the panel.
    kind : str
        What is compared.
    rows : int
        The latest so many rows are looked at.
    before, now : str
        What stands in the study's table and in the newer rows, in words.
    size : float
        Distance of the distributions, or difference of the shares.
    p : float
        P-value.
    found : bool
        Whether it is a discovery, and large.
    conversion : Conversion or None
        The unit that would explain it.
    """

    column: str
    kind: Kind
    rows: int
    before: str
    now: str
    size: float
    p: float
    found: bool = False
    conversion: Conversion | None = None


def compare_inputs(
    study: Study, table: pd.DataFrame, newer: pd.DataFrame
) -> tuple[ColumnTest, ...]:
    """Return all tests of all columns that the model reads.

    Parameters
    ----------
    table : DataFrame
        This hospital's frozen table of the study.
    newer : DataFrame
        Newer patients in the contract's columns, oldest first.
    """
    tests = [
        test
        for declared in inputs_of(study)
        for test in _of_column(declared, read_values(declared, table), read_values(declared, newer))
    ]
    found = yekutieli(np.array([each.p for each in tests]), INPUTS)
    return tuple(
        replace(each, found=bool(is_found) and each.size >= LARGE[each.kind])
        for each, is_found in zip(tests, found, strict=True)
    )


def input_findings(study: Study, tests: tuple[ColumnTest, ...]) -> Iterator[Finding]:
    """Yield what was found: one finding a column and kind, of the rows where it is clearest."""
    declared = {each.name: each for each in inputs_of(study)}
    found = sorted((each for each in tests if each.found), key=lambda each: each.p)
    explained = {each.column: each for each in reversed(found) if each.conversion is not None}
    told = set[tuple[str, Kind]]()
    yield from (_another_unit(declared[each.column], each) for each in explained.values())
    for test in found:
        if test.column not in explained and (test.column, test.kind) not in told:
            told.add((test.column, test.kind))
            yield _finding(declared[test.column], test)


def _of_column(declared: Declared, before: Values, newer: Values) -> Iterator[ColumnTest]:
    total = len(newer)
    for rows in (total, *(latest for latest in LATEST if latest < total)):
        now = newer.latest(rows)
        name = declared.name
        shared: tuple[tuple[Kind, Bools, Bools], ...] = (
            ("missing", before.missing, now.missing),
            ("not understood", before.odd, now.odd),
            ("out of range", before.outside, now.outside),
        )
        for kind, was, isnow in shared:
            size = abs(float(isnow.mean() - was.mean()))
            p = shares(was, isnow)
            yield ColumnTest(name, kind, rows, f"{was.mean():.0%}", f"{isnow.mean():.0%}", size, p)
        yield (
            _of_numbers(declared, rows, before, now)
            if declared.bounds is not None
            else (_of_words(declared, rows, before, now))
        )


def _of_numbers(declared: Declared, rows: int, before: Values, now: Values) -> ColumnTest:
    size, p = distance(before.numbers, now.numbers)
    said = [
        f"median {np.median(each.numbers):.4g} {declared.unit}" if each.numbers.size else "no value"
        for each in (before, now)
    ]
    conversion = None
    if p <= INPUTS:  # no discovery otherwise, whatever the other tests say
        conversion = _unit(declared, before.numbers, now.numbers, size)
    return ColumnTest(
        declared.name, "values", rows, said[0], said[1], size, p, conversion=conversion
    )


def _unit(declared: Declared, before: Floats, now: Floats, size: float) -> Conversion | None:
    """Return the conversion after which values lie nearest, if it takes most of the distance."""
    known = conversions_to(declared.unit, declared.name)
    if not known or not before.size or not now.size:
        return None
    left, best = min((distance(before, each.apply(now))[0], at) for at, each in enumerate(known))
    return known[best] if left <= FITS * size else None


def _of_words(declared: Declared, rows: int, before: Values, now: Values) -> ColumnTest:
    word, change, p = levels(before.words, now.words)
    was, isnow = (
        f"{np.mean(each.words == word):.0%} {word}" if word and each.words.size else "no value"
        for each in (before, now)
    )
    return ColumnTest(declared.name, "values", rows, was, isnow, abs(change), p)


def _compared(test: ColumnTest) -> str:
    now = f"{test.now} in the latest {test.rows} rows"
    return f"{test.before} in this hospital's table of the study, {now}"


def _another_unit(declared: Declared, test: ColumnTest) -> Finding:
    name = declared.name
    return Finding(
        name,
        "look",
        f"{name} is probably in another unit: {_compared(test)}; they fit after {test.conversion}.",
        f"See in which unit {name} is exported and write its factor into the mapping; do not use "
        "predictions for these patients until then.",
        spoils=True,
    )


def _finding(declared: Declared, test: ColumnTest) -> Finding:
    name, compared = declared.name, _compared(test)
    if test.kind == "values":
        then = f"See whether the patients, a device or the extract of {name} changed."
        return Finding(name, "look", f"{name} has changed: {compared}.", then)
    reason = f"{name} is {test.kind} more or less often than it was: {compared}."
    then = f"See how {name} gets into the extract, and mend extract or mapping."
    return Finding(name, "look", reason, then, spoils=True)
