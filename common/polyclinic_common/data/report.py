"""The report of a table's check: for the hospital alone, since it holds counts and words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from polyclinic_common.data.deviation import Deviation
from polyclinic_common.data.leaks import Leak
from polyclinic_common.data.settled import SettledRule
from polyclinic_common.errors import Code, DataError, Problem

OTHER_EVENT = "its event column has a third word, and competing events are not modelled"


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


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: every column, the reasons against using the table, and notes.

    `deviations` are what nobody has said the meaning of: each is among the problems, too.
    `settled` is what the mapping says, with how often it applied. `unused` are columns of the
    extract of which nothing gets in. `leaks` are columns that all but
    tell the outcome; they do not make the table unusable. `other_events` counts words of an event
    column that are neither of the study's two.
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
    deviations: tuple[Deviation, ...] = ()
    settled: tuple[SettledRule, ...] = ()
    unused: tuple[str, ...] = ()
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
        told = [asdict(each) | {"words": str(each)} for each in self.settled]
        return {"usable": self.usable} | asdict(self) | {"settled": told}

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
            "Mend the extract, or write into the mapping what it means: `data check --propose "
            "FILE` writes a line for each.",
            self.problems,
        )
