"""Whether a hospital's table can be used for a study, column by column; nothing is changed.

The report is for the hospital alone: it holds counts and, for words that the study does not know,
a few of these words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.genotype import diplotype_copies, snp_copies
from polyclinic_common.data.holdout import held_out
from polyclinic_common.data.leaks import find_leaks
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.report import (
    CheckReport,
    ColumnCheck,
    UnitError,
    column_problems,
    other_event_problem,
)
from polyclinic_common.data.table import as_number, as_text, column_or_missing, read_numbers
from polyclinic_common.data.units import Conversion, conversions_to
from polyclinic_common.errors import Problem
from polyclinic_common.study.describe import Declared, declared_columns
from polyclinic_common.study.features import Diplotype, Snp
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival
from polyclinic_common.study.sections import SplitColumn

if TYPE_CHECKING:
    import pandas as pd

MOST_WORDS = 5
MOST_LETTERS = 20
MOST_DISTINCT = 20
UNIT_ERROR_FROM = 0.1
UNIT_ERROR_LEFT = 0.2


def refuse_unusable(study: Study, frame: pd.DataFrame) -> CheckReport:
    """Check a table in the contract's columns and raise DataError if it cannot be used."""
    return check_table(study, frame).require_usable()


def check_table(study: Study, frame: pd.DataFrame) -> CheckReport:
    """Check a table in the contract's columns against `study`.

    Parameters
    ----------
    study : Study
        The study.
    frame : DataFrame of n rows
        The table after `apply_mapping`; it is not changed.
    """
    ids = as_text(column_or_missing(frame, study.cohort.patient_id))
    numbers = ids.map(same_number, na_action="ignore")
    repeated = ids.notna() & numbers.duplicated(keep=False)
    columns = tuple(_check_column(declared, frame) for declared in declared_columns(study))
    known = _outcome_known(study, frame)
    missing_ids = int(ids.isna().sum())
    problems = [
        *(problem for column in columns for problem in _column_problems(study, column)),
        *_patient_problems(study, missing_ids, int(repeated.sum()), bool(known.any()), columns),
    ]
    return CheckReport(
        study=f"{study.id} {study.version}",
        study_hash=study.hash(),
        rows=len(frame),
        missing_patient_ids=missing_ids,
        duplicate_rows=int(repeated.sum()),
        duplicate_patients=int(numbers[repeated].nunique()),
        without_outcome=int((~known).sum()),
        columns=columns,
        problems=tuple(problems),
        notes=tuple(_notes(study, frame, columns, known)),
        other_events=sum(column.unknown for column in columns if _has_other(study, column)),
    )


def report_table(study: Study, frame: pd.DataFrame) -> CheckReport:
    """Check a table as `check_table` does, and look for columns that all but tell the outcome."""
    report = check_table(study, frame)
    return replace(report, leaks=find_leaks(study, frame)) if report.usable else report


@dataclass(frozen=True)
class _Tally:
    """Counts over the cells of a column; those of a panel's columns add up."""

    cells: int
    values: int
    unreadable: int
    out_of_range: int
    after: tuple[int, ...]

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(
            self.cells + other.cells,
            self.values + other.values,
            self.unreadable + other.unreadable,
            self.out_of_range + other.out_of_range,
            tuple(a + b for a, b in zip(self.after, other.after, strict=True)),
        )


def _check_column(declared: Declared, frame: pd.DataFrame) -> ColumnCheck:
    present = [column for column in declared.columns if column in frame.columns]
    if not present:
        return ColumnCheck(
            declared.name, declared.role, present=False, columns_absent=len(declared.columns)
        )
    if declared.bounds is not None:
        return _check_numbers(declared, [frame[column] for column in present])
    return _check_words(declared, frame[present[0]])


def _check_numbers(declared: Declared, series: list[pd.Series]) -> ColumnCheck:
    conversions = conversions_to(declared.unit, declared.name)
    tally = reduce(_Tally.__add__, (_tally(declared, conversions, values) for values in series))
    return ColumnCheck(
        declared.name,
        declared.role,
        present=True,
        columns_absent=len(declared.columns) - len(series),
        values=tally.values,
        missing_share=1.0 - tally.values / max(tally.cells, 1),
        out_of_range=tally.out_of_range,
        unreadable=tally.unreadable,
        unit_error=_unit_error(tally, conversions),
    )


def _tally(declared: Declared, conversions: tuple[Conversion, ...], series: pd.Series) -> _Tally:
    low, high = declared.bounds or (-np.inf, np.inf)
    numbers, present = read_numbers(series)
    readable = numbers[~np.isnan(numbers)]

    def outside(values: NDArray[np.float64]) -> int:
        return int(((values < low) | (values > high)).sum())

    return _Tally(
        cells=len(series),
        values=int(present.sum()),
        unreadable=int(present.sum()) - len(readable),
        out_of_range=outside(readable),
        after=tuple(outside(conversion.apply(readable)) for conversion in conversions),
    )


def _unit_error(tally: _Tally, conversions: tuple[Conversion, ...]) -> UnitError | None:
    """Return the conversion that mends most, where it leaves at most a fifth outside."""
    readable = tally.values - tally.unreadable
    if not conversions or tally.out_of_range < max(UNIT_ERROR_FROM * tally.values, 1):
        return None
    left, best = min(zip(tally.after, range(len(conversions)), strict=True))
    if left > UNIT_ERROR_LEFT * tally.out_of_range:
        return None
    conversion = conversions[best]
    return UnitError(
        str(conversion),
        conversion.factor,
        conversion.offset,
        tally.out_of_range / readable,
        left / readable,
    )


def _check_words(declared: Declared, series: pd.Series) -> ColumnCheck:
    words = as_text(series)
    unknown = _unknown_words(declared, words)
    shown = unknown.index[: MOST_WORDS if len(unknown) <= MOST_DISTINCT else 0]
    return ColumnCheck(
        declared.name,
        declared.role,
        present=True,
        values=int(words.notna().sum()),
        missing_share=float(words.isna().mean()),
        unknown=int(unknown.sum()),
        unknown_words=tuple(_shorten(str(word)) for word in shown),
        unknown_distinct=len(unknown),
    )


def _unknown_words(declared: Declared, words: pd.Series) -> pd.Series[int]:
    """Return how often each unknown word occurs, the most frequent first."""
    if not declared.words and declared.feature is None:
        import pandas as pd  # noqa: PLC0415

        return pd.Series(dtype=np.int64)
    counts = words.value_counts().sort_index()
    unknown = counts[~counts.index.isin(_understood(declared, counts.index))]
    return unknown.sort_values(ascending=False, kind="stable")


def _shorten(word: str) -> str:
    printable = "".join(letter if letter.isprintable() else "?" for letter in word)
    return printable if len(printable) <= MOST_LETTERS else printable[: MOST_LETTERS - 1] + "…"


def _understood(declared: Declared, words: pd.Index) -> list[str]:
    """Return those of the distinct `words` that the study understands."""
    import pandas as pd  # noqa: PLC0415

    series = pd.Series(words, dtype=object)
    if isinstance(declared.feature, Snp):
        copies = snp_copies(declared.feature, series)
    elif isinstance(declared.feature, Diplotype):
        copies = diplotype_copies(declared.feature, series)
    else:
        return list(declared.words)
    understood: NDArray[np.bool_] = np.all(~np.isnan(copies), axis=1)
    return list(series[understood])


def _outcome_known(study: Study, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return for each row whether the patient's outcome can be read, shape (n,)."""
    lowest = 0.0 if isinstance(study.outcome, Survival) else -np.inf
    known = np.ones(len(frame), dtype=np.bool_)
    for declared in declared_columns(study):
        if declared.role != "outcome":
            continue
        values = column_or_missing(frame, declared.name)
        if declared.words:
            known &= as_text(values).isin(declared.words).to_numpy()
        else:
            known &= as_number(values) >= lowest
    return known


def _column_problems(study: Study, column: ColumnCheck) -> Iterator[Problem]:
    if isinstance(study.outcome, Survival) and _has_other(study, column):
        yield other_event_problem(column, study.outcome)
    else:
        yield from column_problems(column)


def _has_other(study: Study, column: ColumnCheck) -> bool:
    """Say whether a column is the event's and holds a third word beside the study's two.

    Where it holds neither of the two it is not mapped yet, and no patient has a known outcome.
    """
    outcome = study.outcome
    is_event = isinstance(outcome, Survival) and column.column == outcome.event
    return is_event and 0 < column.unknown < column.values


def _patient_problems(
    study: Study,
    missing_ids: int,
    repeated: int,
    any_outcome: bool,
    columns: tuple[ColumnCheck, ...],
) -> Iterator[Problem]:
    absent = {column.role for column in columns if not column.present}
    patient_id = study.cohort.patient_id
    if repeated:
        yield Problem(
            patient_id,
            f"{repeated} rows share their patient id with another row.",
            "Make it one row a patient; blanks, case and quotes tell no two apart.",
        )
    if missing_ids and "patient id" not in absent:
        yield Problem(
            patient_id, f"{missing_ids} rows have no patient id.", "Fill it in or drop them."
        )
    if not any_outcome and "outcome" not in absent:
        yield Problem(
            "outcome",
            "No patient has a known outcome.",
            "Check the outcome columns and their `codes` in the mapping.",
        )


def _notes(
    study: Study,
    frame: pd.DataFrame,
    columns: tuple[ColumnCheck, ...],
    known: NDArray[np.bool_],
) -> Iterator[str]:
    for check in columns:
        if check.role in {"feature", "treatment"} and check.columns_absent:
            number = f" ({check.columns_absent} columns)" if check.columns_absent > 1 else ""
            yield f"{check.column} is absent{number}: it counts as missing for every patient."
    for declared in declared_columns(study):
        if declared.role == "outcome" and known.any():
            values = as_text(frame.loc[known, declared.name])
            if values.nunique() == 1:
                yield f"{declared.name} is the same for every patient."
    if 0 < (~known).sum() < len(known):
        yield f"{int((~known).sum())} patients have no known outcome: they are not trained on."
    yield from _held_out_notes(study, frame, known)


def _held_out_notes(study: Study, frame: pd.DataFrame, known: NDArray[np.bool_]) -> Iterator[str]:
    """Say what held-out patients without a known outcome do to metrics that are released."""
    if not study.private_metrics or study.cohort.patient_id not in frame.columns:
        return
    test = held_out(study, frame)
    unknown = int((test & ~known).sum())
    if unknown:
        effect = (
            "they do not count in released metrics."
            if isinstance(study.evaluation.holdout, SplitColumn)
            else "released means (mean error, accuracy, ...) take the middle of the range for "
            "them. Leave them out of the table to keep them out of the means."
        )
        yield f"{unknown} of {int(test.sum())} held-out patients have no known outcome: {effect}"
