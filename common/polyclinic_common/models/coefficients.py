"""Coefficients of a linear model as a table that people read and write: name, coefficient, unit.

    name,coefficient,unit
    intercept,5.6044,sqrt(mg/week)
    age,-0.2614,decades
    race=Asian,-0.1092,
    vkorc1,-0.8487,copy of A

Names are those of the encoded columns. A number counts per unit of its column, an ordinal column
per step, a genotype per copy; a level, or ``... missing``, is added where it holds. A unit is that
of the study where it is left empty, else converted if the conversion is known.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.natural import COPY, NaturalColumn, NaturalColumns
from polyclinic_common.data.units import canonical_unit
from polyclinic_common.errors import Code, ModelError, Problem
from polyclinic_common.models.matching import SAME, Link, UnlikeError, lacking, unit_link
from polyclinic_common.models.natural import NaturalModel, to_natural
from polyclinic_common.models.score_head import Matrix, Vector
from polyclinic_common.study.features import Snp
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Outcome, Survival

NAME, COEFFICIENT, UNIT = "name", "coefficient", "unit"
INTERCEPT = "intercept"


@dataclass(frozen=True)
class Row:
    """One coefficient."""

    name: str
    coefficient: float
    unit: str = ""


@dataclass(frozen=True)
class FromTable:
    """A model that a table gives, and what of study and table did not meet.

    Attributes
    ----------
    new, gone, converted : tuple of str
        Columns without a row, which start at zero; rows without a column; rows in other units.
    """

    model: NaturalModel
    new: tuple[str, ...]
    gone: tuple[str, ...]
    converted: tuple[str, ...]


def intercept_names(outcome: Outcome) -> tuple[str, ...]:
    """Return the rows of the outputs' constants: one, or one an interval of the time grid."""
    if not isinstance(outcome, Survival):
        return (INTERCEPT,)
    return tuple(f"{INTERCEPT} until {repr(end).removesuffix('.0')}" for end in outcome.grid)


def scale_of(outcome: Outcome) -> str:
    """Return what the terms add up to, in words: the unit of the intercept."""
    if isinstance(outcome, Continuous):
        unit, transform = outcome.unit, outcome.transform
        return unit if transform == "none" else f"{transform}({unit})"
    if isinstance(outcome, Binary):
        return f"log odds of {outcome.column} = {outcome.positive}"
    return f"log odds of {outcome.event} = {outcome.occurred} in the interval"


def rows_of(study: Study, encoding: Encoding, weights: Vector) -> list[Row]:
    """Return the coefficients of a linear model's weights, shape (d,).

    Raises
    ------
    ModelError
        M002 if the model is not linear, or two of its columns have one name.
    """
    columns = _table_columns(study, encoding)
    model, scale = to_natural(study, encoding, weights), scale_of(study.outcome)
    names = intercept_names(study.outcome)
    constants = [Row(n, float(v), scale) for n, v in zip(names, model.intercepts, strict=True)]
    terms = zip(columns, model.first[0], strict=True)
    return [*constants, *(Row(c.name, float(value), c.unit) for c, value in terms)]


def write_rows(rows: list[Row]) -> str:
    """Return rows as CSV text; numbers are written so that they read back as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((NAME, COEFFICIENT, UNIT))
    writer.writerows((row.name, repr(row.coefficient), row.unit) for row in rows)
    return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """Read a table of coefficients.

    Raises
    ------
    ModelError
        M001 if the file is no such table, a coefficient is no finite number, or a name stands
        twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, restval="", skipinitialspace=True)
            rows = [_row(line) for line in lines]
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        raise _unreadable(path, "is no table of names and finite coefficients") from error
    twice = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if not rows or twice:
        raise _unreadable(path, f"has two rows named {twice[0]!r}" if twice else "has no rows")
    return rows


def _row(line: Mapping[str | None, str]) -> Row:
    feature, equals, level = line[NAME].partition("=")  # no column's name holds this sign
    name = f"{feature.strip()} = {level.strip()}" if equals else feature.strip()
    value = float(line[COEFFICIENT])
    if not name or not math.isfinite(value) or None in line:
        raise ValueError(name)
    return Row(name, value, (line.get(UNIT) or "").strip())


def _unreadable(path: Path, what: str) -> ModelError:
    return ModelError(
        Code.MODEL_UNREADABLE,
        f"The table of coefficients {path.name} {what}.",
        "Write CSV (UTF-8) with the columns name, coefficient and, if you like, unit; "
        "`polyclinic study coefficients` writes one.",
    )


def from_rows(study: Study, encoding: Encoding, rows: list[Row]) -> FromTable:
    """Return the model that a table gives to a study.

    A column whose missing values have no row takes the middle of its range for them.

    Raises
    ------
    ModelError
        M002 if the model is not linear, an intercept is absent or on another scale, or no row
        names a column; M003 if a unit cannot be converted.
    """
    columns = _table_columns(study, encoding)
    given = {row.name: row for row in rows}
    constants = _intercepts(study, given)
    known = {column.name: given.pop(column.name) for column in columns if column.name in given}
    if not known:
        raise _misfit("None of its rows names a column of the study.")
    links = _links(study, columns, known)
    first, gained = _carried(encoding, columns, known, links)
    model = NaturalModel(first, np.zeros(1), (), np.zeros(0), constants + gained)
    new = lacking(columns, [column for column in columns if column.name in known])
    converted = tuple(name for name, found in links.items() if found != SAME)
    return FromTable(model, new, tuple(given), converted)


def _table_columns(study: Study, encoding: Encoding) -> tuple[NaturalColumn, ...]:
    """Return the columns that a table names; each has to have a name of its own."""
    if study.model.kind != "linear":
        raise _misfit("The study's model is not linear: it has no coefficients.")
    columns = NaturalColumns(encoding).columns
    names = Counter([*(column.name for column in columns), *intercept_names(study.outcome)])
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise _misfit(f"The study has two columns that are called {twice[0]!r} in a table.")
    return columns


def _intercepts(study: Study, given: dict[str, Row]) -> Vector:
    """Take the rows of the intercepts out of `given`."""
    names, scale = intercept_names(study.outcome), scale_of(study.outcome)
    absent = [name for name in names if name not in given]
    if absent:
        raise _misfit(f"It has no row {absent[0]!r}.")
    rows = [given.pop(name) for name in names]
    others = [row.unit for row in rows if row.unit and not _same(row.unit, scale)]
    if others:
        raise _misfit(f"Its terms add up to {others[0]!r}, the study's to {scale!r}.")
    return np.array([row.coefficient for row in rows])


def _same(unit: str, other: str) -> bool:
    return canonical_unit(unit) == canonical_unit(other)


def _links(
    study: Study, columns: tuple[NaturalColumn, ...], known: dict[str, Row]
) -> dict[str, Link]:
    """Return how each row's unit follows from the study's, by name."""
    snps = {f.name: f for f in study.cohort.features if isinstance(f, Snp)}
    links, problems = dict[str, Link](), list[Problem]()
    for column in columns:
        if column.name in known:
            unit = known[column.name].unit or column.unit
            try:
                links[column.name] = _link(column, unit, snps.get(column.feature))
            except UnlikeError as error:
                remedy = f"Give it per {column.unit}." if column.unit else "Leave its unit empty."
                problems.append(Problem(column.name, f"{error}.", remedy))
    if problems:
        raise ModelError(
            Code.MODEL_COLUMN,
            "Units of the table of coefficients cannot be converted to the study's.",
            "Give these coefficients per unit of the study, or leave the unit empty.",
            problems,
        )
    return links


def _link(column: NaturalColumn, unit: str, snp: Snp | None) -> Link:
    if snp is not None and column.has_missing and _same(unit, f"{COPY} of {snp.reference}"):
        return -1.0, 2.0
    if column.has_missing:
        return unit_link(column.feature, column.unit, unit)
    if not _same(unit, column.unit):
        raise UnlikeError(f"Its unit is {unit!r} in the table")
    return SAME


def _carried(
    encoding: Encoding,
    columns: tuple[NaturalColumn, ...],
    known: dict[str, Row],
    links: dict[str, Link],
) -> tuple[Matrix, float]:
    """Return the coefficients per unit of the study, shape (1, p), and what the constant gains."""
    natural = NaturalColumns(encoding)
    given = np.array([known[c.name].coefficient if c.name in known else 0.0 for c in columns])
    factor, shift = np.array([links.get(column.name, SAME) for column in columns]).T
    gained, first = given * shift, given * factor
    middle = -natural.offset / natural.scale
    for value, missing in zip(natural.valued, natural.missing, strict=True):
        if columns[missing].name in known:
            first[missing] -= gained[value]
        else:
            first[missing] = first[value] * middle[value]
    return first[None, :], float(gained.sum())


def _misfit(what: str) -> ModelError:
    return ModelError(
        Code.MODEL_SHAPE,
        f"The table of coefficients does not fit the study. {what}",
        "`polyclinic study coefficients` shows what such a table looks like.",
    )
