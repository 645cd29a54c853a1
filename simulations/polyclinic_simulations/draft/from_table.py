"""From a table to a first manifest: a draft to be corrected, for a first result in minutes.

Ranges, vocabularies and the time grid are guessed from the table. That is for a first look on one
machine only: in a study they are public and name their source, and every guess says so.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pandas as pd

from polyclinic_common.data.files import read_table
from polyclinic_common.data.leaks import WHAT_TO_DO, WHY, find_leaks
from polyclinic_common.data.values import as_text
from polyclinic_common.errors import Code, DataError, Problem, SimulationError
from polyclinic_common.files import write_atomically
from polyclinic_common.study import Study, load_study
from polyclinic_common.study.base import NAME, NAME_RULE, SITE_RULE, is_site_name
from polyclinic_common.study.outcomes import Binary, Continuous
from polyclinic_simulations.draft.guesses import (
    feature_section,
    outcome_section,
    quote,
    survival_section,
    without_strange_cells,
)
from polyclinic_simulations.federation.federation import PUBLISHED

# Names of a patient's number, in letters; besides, every name that ends in the word ID.
PATIENT_NUMBERS = frozenset(
    {"patient", "patientid", "patid", "pid", "id", "mrn", "subject", "subjectid", "subjid"}
    | {"patnr", "patientnumber", "patientnr", "patientno", "case", "caseid", "usubjid"}
    | {"recordid", "studyid", "person", "personid", "participant", "ptid", "fall", "fallnummer"}
)


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
    positive : str or None
        The word of the event or the positive answer; needed where nobody can know it.
    """

    site: str
    outcome: str
    event: str | None = None
    patient: str | None = None
    positive: str | None = None

    @property
    def named(self) -> list[str]:
        """Columns that are named."""
        columns = (self.site, self.outcome, self.event, self.patient)
        return [column for column in columns if column is not None]


def draft_manifest(frame: pd.DataFrame, roles: Roles, name: str) -> tuple[str, pd.DataFrame]:
    """Return a first manifest as TOML text, and the table as text with a patient number.

    Raises
    ------
    DataError
        If a column is absent or cannot stand in a study, or no feature can be made of the table.
    """
    _refuse_roles(frame, roles)
    frame = pd.DataFrame({column: as_text(frame[column]) for column in frame.columns})
    patient = roles.patient or _free_name(frame)
    if roles.patient is None:
        frame[patient] = [str(row) for row in range(len(frame))]
    sections = [
        _head(name, _sites(frame[roles.site], roles.site), roles, patient),
        *_features(frame, {*roles.named, patient}),
        _outcome(frame, roles),
        TRAINING,
    ]
    return "\n".join(sections), frame


TRAINING = """\
[training]
ridge = "release"
calibration = { share = 0.1, steps = 4 }
"""


def _refuse_roles(frame: pd.DataFrame, roles: Roles) -> None:
    """Refuse columns that are absent, named for two things, or cannot be named in a study."""
    options = "--site-column, --outcome-column, --event-column and --patient-column"
    twice = [column for column, uses in Counter(roles.named).items() if uses > 1]
    if twice:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The column {twice[0]!r} is named for two things.",
            f"Name different columns with {options}.",
        )
    for column in roles.named:
        if column not in frame.columns:
            raise DataError(
                Code.COLUMN_ABSENT,
                f"The table has no column {column!r}.",
                f"Name columns of the table with {options}.",
            )
        if not _can_be_named(column):
            raise DataError(
                Code.DATA_UNUSABLE,
                f"The column {column!r} has a name that a study cannot use.",
                f"Rename it. {NAME_RULE} Names that begin with {PUBLISHED!r} are taken.",
            )


def _can_be_named(column: str) -> bool:
    return re.fullmatch(NAME, column) is not None and not column.startswith(PUBLISHED)


def _free_name(frame: pd.DataFrame) -> str:
    names = ("row" if number == 1 else f"row {number}" for number in count(1))
    return next(name for name in names if name not in frame.columns)


def _sites(words: pd.Series, column: str) -> list[str]:
    """Return the hospitals' names; fewer than two, or unusable ones, are refused."""
    sites = sorted(words.dropna().unique())
    if len(sites) < 2:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The site column {column!r} names {len(sites)} hospitals; a federation needs two.",
            "Name another --site-column, or add the tables of more hospitals.",
        )
    unusable = sum(not is_site_name(site) for site in sites)
    if unusable:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"{unusable} of {len(sites)} hospitals in the column {column!r} have a name that a "
            "study cannot use.",
            f"Rename them. {SITE_RULE}",
        )
    return sites


def _head(name: str, sites: list[str], roles: Roles, patient: str) -> str:
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f"""\
# A first draft. What is marked GUESSED comes from the table itself: replace it by public values
# before any hospital is asked to take part.
polyclinic = 1
id = {quote(_identifier(name))}
version = "0.1.0"
title = {quote(f"First look at {printable}")}
purpose = "A first look on one machine."
expires = 2099-12-31

[roster]
sites = {quote(sites)}

[cohort]
patient_id = {quote(patient)}
site = {quote(roles.site)}
"""  # noqa: S608


def _identifier(name: str) -> str:
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")
    return f"{letters or 'table'}-draft"[:40]


def _features(frame: pd.DataFrame, taken: set[str]) -> list[str]:
    """Return the sections of all features; cells that none can hold are taken out of `frame`."""
    sections, skipped = [], []
    for column in frame.columns:
        if column in taken:
            continue
        section = feature_section(column, frame[column]) if _can_be_named(column) else None
        if section is None:
            skipped.append(column)
        else:
            frame[column], section = without_strange_cells(frame[column], section)
            sections.append(section)
    if not sections:
        raise DataError(
            Code.COLUMN_ABSENT,
            "The table has no column that could describe a patient.",
            f"Add numeric columns, or columns with few different words. Their names: {NAME_RULE}",
        )
    if skipped:
        sections.append(f"# Left out (free text, or no usable name): {quote(skipped)}\n")
    return sections


def _outcome(frame: pd.DataFrame, roles: Roles) -> str:
    if roles.event is None:
        return outcome_section(frame[roles.outcome], roles.outcome, roles.positive)
    return survival_section(
        frame[roles.outcome], frame[roles.event], roles.outcome, roles.event, roles.positive
    )


def draft_study(table: Path, roles: Roles, folder: Path) -> tuple[Study, pd.DataFrame]:
    """Write a first manifest and the table with patient numbers to `folder`, and read them.

    Called again with the same table, what was written is used again.

    Raises
    ------
    DataError
        If the table cannot be used, or another draft is there: it may have been edited.
    SimulationError
        If the folder cannot be used.
    """
    text, frame = draft_manifest(read_table(table), roles, table.stem)
    manifest, rows = _drafts(table, folder)
    # Fields with a bare carriage return are quoted only where the line ends hold one.
    drafted = {
        rows: frame.to_csv(index=False, lineterminator="\r\n").encode(),
        manifest: text.encode(),
    }
    try:
        for path, content in drafted.items():
            if path.exists() and path.read_bytes() != content:
                raise _edited(path, manifest, rows, folder)
        for path, content in drafted.items():
            write_atomically(path, content)
    except OSError as error:
        raise SimulationError(
            Code.SIMULATION_OUTPUT,
            f"The output folder cannot be used ({error.strerror}).",
            "Check the path, its permissions and the free disk space.",
        ) from error
    return load_study(manifest), read_table(rows)


def taken_for_event(study: Study, roles: Roles) -> str:
    """Say what the draft took for the event or the positive answer, and why: a line, or nothing."""
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        return ""
    words = (
        (outcome.positive, outcome.negative)
        if isinstance(outcome, Binary)
        else (outcome.occurred, outcome.censored)
    )
    what = "the positive answer" if isinstance(outcome, Binary) else "the event"
    why = "as --event-is says" if roles.positive else "as these words are used; else --event-is"
    return f"Taken for {what}: {words[0]}; for its absence: {words[1]} ({why}).\n"


def several_rows(frame: pd.DataFrame, roles: Roles) -> str:
    """Warn where every row counts as a patient and a column looks like the patients' numbers."""
    if roles.patient is not None:
        return ""
    for column in frame.columns:
        numbers = as_text(frame[column]).dropna()
        repeated = int(numbers.duplicated(keep=False).sum())
        if _is_patient_number(column) and repeated:
            return (
                f"warning: every row counts as a patient, but {repeated} of {len(frame)} rows "
                f"share their {column} with another: one patient may stand in training and in "
                f"test. If it numbers the patients, add --patient-column {shlex.quote(column)}.\n"
            )
    return ""


def _is_patient_number(column: str) -> bool:
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower())
    joined = "".join(words)
    return joined in PATIENT_NUMBERS or (bool(words) and words[-1] == "id" and len(words) > 1)


def _drafts(table: Path, folder: Path) -> tuple[Path, Path]:
    """Return where the manifest and the table with patient numbers are drafted."""
    return folder / f"{table.stem}.toml", folder / f"{table.stem}-table.csv"


def refuse_leaks(study: Study, frame: pd.DataFrame, table: Path, folder: Path) -> None:
    """Refuse a drafted study before training if a column all but tells the outcome.

    The draft stays where it is: a person may take the column out of it, or go on with it as it is.

    Raises
    ------
    DataError
        D011, with one problem a column: how strongly, why it matters, what to do.
    """
    leaks = find_leaks(study, frame)
    if not leaks:
        return
    manifest, rows = _drafts(table, folder)
    raise DataError(
        Code.COLUMN_LEAKS,
        "Columns of the table all but tell the outcome.",
        f"Take them out of {manifest}, or keep them, and go on with it by "
        f"`{_going_on(manifest, rows, folder)}` (and your other options).",
        [Problem(leak.column, leak.what, f"{WHY} {WHAT_TO_DO}") for leak in leaks],
    )


def _edited(path: Path, manifest: Path, rows: Path, folder: Path) -> DataError:
    return DataError(
        Code.FILE_EXISTS,
        f"The file {path} differs from what would be drafted and is left as it is.",
        f"Go on with it by `{_going_on(manifest, rows, folder)}` (and your other options), "
        "or draft anew with another --out.",
    )


def _going_on(manifest: Path, rows: Path, folder: Path) -> str:
    return shlex.join(
        ["polyclinic", "simulate", str(manifest), "--data", str(rows), "--out", str(folder)]
    )
