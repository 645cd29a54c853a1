"""The report of a table's check: for the hospital alone, since it holds counts and words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from polyclinic_common.data.leaks import Leak
from polyclinic_common.errors import Code, DataError, Problem
from polyclinic_common.study.outcomes import Survival

OTHER_EVENT = "its event column has a third word, and competing events are not modelled"
BAD_SHARE = 0.5
BAD_AT_LEAST = 10


@dataclass(frozen=True)
class UnitError:
    """A conversion after which values fit that do not fit now.

    Attributes
    ----------
    conversion : str
        The conversion in words.
    out_now, out_after : float
        Shares of the values outside the public range, before and after the conversion.
    """

    conversion: str
    factor: float
    offset: float
    out_now: float
    out_after: float


@dataclass(frozen=True)
class ColumnCheck:
    """What stands in one column (or in all columns of a panel).

    Attributes
    ----------
    present : bool
        Whether the table has the column (for a panel: any of its columns).
    values : int
        Cells that are not missing; `missing_share` is the share of the others.
    out_of_range, unreadable, unknown : int
        Cells outside the public range, with text for a number, with a word the study lacks.
    unknown_words : tuple of str
        The most frequent unknown words, shortened; empty where there are very many.
    unknown_distinct : int
        Number of different unknown words.
    """

    column: str
    role: str
    present: bool
    columns_absent: int = 0
    values: int = 0
    missing_share: float = 1.0
    out_of_range: int = 0
    unreadable: int = 0
    unknown: int = 0
    unknown_words: tuple[str, ...] = ()
    unknown_distinct: int = 0
    unit_error: UnitError | None = None

    @property
    def bad_share(self) -> float:
        """Share of the present values that cannot be used as they stand."""
        return self.bad / max(self.values, 1)

    @property
    def bad(self) -> int:
        """Present values that cannot be used as they stand."""
        return self.out_of_range + self.unreadable + self.unknown


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: every column, the reasons against using the table, and notes.

    `leaks` are columns that all but tell the outcome; they do not make the table unusable.
    `other_events` counts words of an event column that are neither of the study's two.
    """

    study: str
    study_hash: str
    rows: int
    missing_patient_ids: int
    duplicate_rows: int
    duplicate_patients: int
    without_outcome: int
    columns: tuple[ColumnCheck, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    leaks: tuple[Leak, ...] = ()
    other_events: int = 0

    @property
    def code(self) -> Code:
        """Code of the error that an unusable table causes."""
        return Code.EVENT_OTHER if self.other_events else Code.DATA_UNUSABLE

    @property
    def usable(self) -> bool:
        """Whether the table can be trained on."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data for ``--json``."""
        return {"usable": self.usable} | asdict(self)

    def require_usable(self) -> CheckReport:
        """Return the report itself.

        Raises
        ------
        DataError
            If the table is unusable, with one problem a reason.
        """
        if self.usable:
            return self
        count = "1 reason" if len(self.problems) == 1 else f"{len(self.problems)} reasons"
        why = f": {OTHER_EVENT}" if self.other_events else ""
        raise DataError(
            self.code,
            f"The table cannot be used for the study {self.study} ({count}){why}.",
            "Mend the extract or the mapping, and try again.",
            self.problems,
        )


def column_problems(check: ColumnCheck) -> Iterator[Problem]:
    """Return the reasons why this column makes the table unusable: at most one."""
    if not check.present:
        if check.role in {"patient id", "outcome", "split"}:
            yield Problem(
                check.column,
                f"The {check.role} column is absent.",
                "Name its source in the mapping (`data map` writes a first one).",
            )
    elif check.unit_error is not None:
        error = check.unit_error
        offset = f" and `offset = {error.offset:.9g}`" if error.offset else ""
        yield Problem(
            check.column,
            f"Probably another unit: {error.out_now:.0%} of the values lie outside the public "
            f"range, {error.out_after:.0%} after {error.conversion}.",
            f"If so, write `factor = {error.factor:.9g}`{offset} for it in the mapping.",
        )
    elif check.bad_share > BAD_SHARE and check.bad >= BAD_AT_LEAST:
        yield Problem(
            check.column,
            f"Of {check.values} values {' and '.join(_bad_values(check))}.",
            "Check that it is the right column, its unit, and `codes` in the mapping.",
        )


def other_event_problem(check: ColumnCheck, outcome: Survival) -> Problem:
    """Return the reason against an event column with more than an event and its censoring."""
    occurred, censored = _quoted(outcome.occurred), _quoted(outcome.censored)
    kinds = "one other word" if check.unknown_distinct == 1 else f"{check.unknown_distinct} others"
    return Problem(
        check.column,
        f"Of {check.values} values {check.unknown} are neither {occurred} (the event) nor "
        f"{censored} (censored) but {kinds}; competing events are not modelled.",
        "Say in the mapping what every such word stands for, by `codes` of this column: "
        f'`"THE WORD" = {censored}` censors these patients at their time, as is usual for a '
        'competing event; `"THE WORD" = ""` leaves them out, as patients without a known outcome.',
    )


def _quoted(word: str) -> str:
    """Return a word as TOML writes it."""
    return json.dumps(word, ensure_ascii=False)


def _bad_values(check: ColumnCheck) -> Iterator[str]:
    if check.unknown:
        yield f"{check.unknown} are words that the study does not know"
    if check.unreadable:
        yield f"{check.unreadable} cannot be read as numbers"
    if check.out_of_range:
        yield f"{check.out_of_range} are out of range"
