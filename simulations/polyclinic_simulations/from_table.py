"""From a table to a first manifest: a draft to be corrected, for a first result in minutes.

Ranges, vocabularies and the time grid are guessed from the table. That is for a first look on one
machine only: in a study they are public and name their source, and every guess says so.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from polyclinic_common.data.table import as_number, as_text, read_table
from polyclinic_common.errors import Code, DataError
from polyclinic_common.files import write_new
from polyclinic_common.study import Study, load_study
from polyclinic_common.study.base import NAME

GUESSED = "GUESSED FROM THE TABLE: replace by a public source"
MOST_LEVELS = 12
POSITIVE_WORDS = ("1", "yes", "true", "positive", "y", "responder", "dead", "event")
GRID_TIMES = 8


@dataclass(frozen=True)
class Roles:
    """Which columns are what.

    Attributes
    ----------
    outcome : str
        The outcome, or the time of a survival outcome.
    event : str or None
        Event indicator; given, the outcome is survival.
    patient : str or None
        Patient number; without one, every row is a patient.
    """

    site: str
    outcome: str
    event: str | None = None
    patient: str | None = None


def draft_manifest(frame: pd.DataFrame, roles: Roles, name: str) -> tuple[str, pd.DataFrame]:
    """Return a first manifest as TOML text, and the table with a patient number.

    Raises
    ------
    DataError
        If a column is absent, or no feature can be made of the table.
    """
    named = [roles.site, roles.outcome, roles.event, roles.patient]
    absent = [column for column in named if column is not None and column not in frame.columns]
    if absent:
        raise DataError(
            Code.COLUMN_ABSENT,
            f"The table has no column {absent[0]!r}.",
            "Name columns of the table with --site-column, --outcome-column, --event-column.",
        )
    patient = roles.patient or "row"
    if roles.patient is None:
        frame = frame.assign(**{patient: [str(row) for row in range(len(frame))]})
    sections = [
        _head(name, frame, roles, patient),
        *_features(frame, {column for column in (*named, patient) if column}),
        _outcome(frame, roles),
    ]
    return "\n".join(sections), frame


def _head(name: str, frame: pd.DataFrame, roles: Roles, patient: str) -> str:
    sites = sorted(as_text(frame[roles.site]).dropna().unique())
    return f"""\
# A first draft. What is marked GUESSED comes from the table itself: replace it by public values
# before any hospital is asked to take part.
polyclinic = 1
id = {json.dumps(_identifier(name))}
version = "0.1.0"
title = {json.dumps(f"First look at {name}")}
purpose = "A first look on one machine."
expires = 2099-12-31

[roster]
sites = {json.dumps(sites)}

[cohort]
patient_id = {json.dumps(patient)}
site = {json.dumps(roles.site)}
"""  # noqa: S608


def _identifier(name: str) -> str:
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")
    return f"{letters}-draft"[:40]


def _features(frame: pd.DataFrame, taken: set[str]) -> list[str]:
    sections, skipped = [], []
    for column in frame.columns:
        if column in taken:
            continue
        section = _feature(str(column), frame[column])
        if section is None:
            skipped.append(str(column))
        else:
            sections.append(section)
    if not sections:
        raise DataError(
            Code.COLUMN_ABSENT,
            "The table has no column that could describe a patient.",
            "Add numeric columns, or columns with few different words.",
        )
    if skipped:
        sections.append(f"# Left out (free text, or no usable name): {json.dumps(skipped)}\n")
    return sections


def _feature(name: str, values: pd.Series) -> str | None:
    """Return one feature's section; None for free text and names that a study cannot carry."""
    words = as_text(values).dropna()
    levels = sorted(words.unique())
    if not re.match(NAME, name) or len(levels) < 2:
        return None
    numbers = as_number(values)
    known = numbers[~np.isnan(numbers)]
    if len(known) >= 0.95 * len(words) and len(levels) > 6:
        low, high = _round_range(*np.quantile(known, [0.01, 0.99]))
        what = f'kind = "numeric"\nunit = "unknown"\nrange = [{low:g}, {high:g}]'
    elif len(levels) <= MOST_LEVELS:
        what = f'kind = "categorical"\nlevels = {json.dumps(levels, ensure_ascii=False)}'
    else:
        return None
    head = f"[[cohort.features]]\nname = {json.dumps(name)}"
    return f"{head}\n{what}\nsource = {json.dumps(GUESSED)}\n"


def _round_range(low: float, high: float) -> tuple[float, float]:
    """Widen a range to round numbers."""
    if high <= low:
        high = low + 1.0
    step = 10.0 ** math.floor(math.log10(high - low))
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _outcome(frame: pd.DataFrame, roles: Roles) -> str:
    column = json.dumps(roles.outcome)
    source = f"source = {json.dumps(GUESSED)}\n"
    if roles.event is not None:
        yes, no = _answers(as_text(frame[roles.event]), roles.event)
        last = np.nanquantile(as_number(frame[roles.outcome]), 0.9)
        grid = [float(f"{last * k / GRID_TIMES:.3g}") for k in range(1, GRID_TIMES + 1)]
        return (
            f'[outcome]\nkind = "survival"\ntime = {column}\nevent = {json.dumps(roles.event)}\n'
            f"occurred = {json.dumps(yes)}\ncensored = {json.dumps(no)}\n"
            f'unit = "unknown"\ngrid = {grid}\n{source}'
        )
    if as_text(frame[roles.outcome]).nunique() == 2:
        yes, no = _answers(as_text(frame[roles.outcome]), roles.outcome)
        answers = f"positive = {json.dumps(yes)}\nnegative = {json.dumps(no)}"
        return f'[outcome]\nkind = "binary"\ncolumn = {column}\n{answers}\n{source}'
    numbers = as_number(frame[roles.outcome])
    if np.isnan(numbers).all():
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The outcome column {roles.outcome!r} holds neither numbers nor two different words.",
            "Name another --outcome-column, or --event-column for a survival time.",
        )
    low, high = _round_range(*np.nanquantile(numbers, [0.0, 1.0]))
    scale = f'unit = "unknown"\nrange = [{low:g}, {high:g}]'
    return f'[outcome]\nkind = "continuous"\ncolumn = {column}\n{scale}\n{source}'


def _answers(words: pd.Series, column: str) -> tuple[str, str]:
    """Return the positive and the negative word of a column that has two."""
    levels = sorted(words.dropna().unique())
    if len(levels) != 2:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The column {column!r} has {len(levels)} different words instead of two.",
            "Name a column with two answers.",
        )
    positive = next((word for word in levels if word.lower() in POSITIVE_WORDS), levels[1])
    return positive, next(word for word in levels if word != positive)


def draft_study(table: Path, roles: Roles, folder: Path) -> tuple[Study, pd.DataFrame]:
    """Write a first manifest and the table with patient numbers to `folder`, and read them.

    Raises
    ------
    DataError
        If the table cannot be used, or a manifest of that name exists: it may have been edited.
    """
    text, frame = draft_manifest(read_table(table), roles, table.stem)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / f"{table.stem}.toml"
    write_new(manifest, text)
    frame.to_csv(folder / f"{table.stem}.csv", index=False)
    return load_study(manifest), frame
