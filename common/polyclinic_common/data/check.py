"""Whether a hospital's table can be used for a study, column by column; nothing is changed.

The report is for the hospital alone: it holds counts and, for words that the study does not know,
a few of these words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from numpy import bool_
from numpy.typing import NDArray

from polyclinic_common.data.deviation import Deviation, Found, toml, written
from polyclinic_common.data.find_columns import absent_columns
from polyclinic_common.data.find_exchanged import settle_exchanged
from polyclinic_common.data.find_numbers import (
    Numbers,
    count_numbers,
    number_deviations,
    unit_error,
)
from polyclinic_common.data.find_rows import improbable, row_deviations
from polyclinic_common.data.find_words import examples, unknown_words, word_deviations
from polyclinic_common.data.holdout import held_out
from polyclinic_common.data.leaks import find_leaks
from polyclinic_common.data.mapping import Translated
from polyclinic_common.data.outcome import read_outcome
from polyclinic_common.data.patients import patient_numbers
from polyclinic_common.data.report import CheckReport, ColumnCheck
from polyclinic_common.data.rules import Mapping, ValueRules
from polyclinic_common.data.values import as_text
from polyclinic_common.errors import Problem
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.features import Panel
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival
from polyclinic_common.study.sections import SplitColumn

if TYPE_CHECKING:
    import pandas as pd

MOST_DISTINCT = 20


def refuse_unusable(study: Study, frame: pd.DataFrame) -> CheckReport:
    """Check a table in the contract's columns and raise DataError if it cannot be used."""
    return check_table(study, frame).require_usable()


def check_table(
    study: Study,
    frame: pd.DataFrame,
    mapping: Mapping | None = None,
    unused: Sequence[str] = (),
) -> CheckReport:
    """Check a table in the contract's columns against `study`.

    A table is usable when everything in it is understood: whatever is not is a deviation, and
    stays one until a person writes into the mapping what it means.

    Parameters
    ----------
    study : Study
        The study.
    frame : DataFrame of n rows
        The table after `translate`; it is not changed.
    mapping : Mapping, optional
        What it was translated by.
    unused : sequence of str
        Columns of the extract of which nothing got into the table.
    """
    mapping = mapping or Mapping()
    checked = [check_column(declared, frame, mapping) for declared in declared_columns(study)]
    columns = tuple(column for column, _ in checked)
    numbers = patient_numbers(study, frame)
    repeated = numbers.notna() & numbers.duplicated(keep=False)
    known = read_outcome(study.outcome, frame).known
    missing_ids = int(numbers.isna().sum())
    deviations = (
        *absent_columns(study, frame, mapping, unused),
        *(deviation for _, found in checked for deviation in found),
        *row_deviations(study, frame, mapping, numbers),
        *improbable(study, frame, mapping),
    )
    deviations = settle_exchanged(study, frame, mapping, deviations)
    problems = [
        *(deviation.problem() for deviation in deviations),
        *_outcome_problems(bool(known.any()), columns),
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
        notes=tuple(_notes(study, frame, known)),
        deviations=deviations,
        unused=tuple(unused),
        other_events=sum(column.unknown for column in columns if _has_other(study, column)),
    )


def report_table(study: Study, translated: Translated, mapping: Mapping) -> CheckReport:
    """Check a table as `check_table` does, and look for columns that all but tell the outcome."""
    frame = translated.frame
    report = check_table(study, frame, mapping, translated.unused)
    report = replace(report, settled=translated.settled)
    return replace(report, leaks=find_leaks(study, frame)) if report.usable else report


def check_column(
    declared: Declared, frame: pd.DataFrame, mapping: Mapping
) -> tuple[ColumnCheck, list[Deviation]]:
    """Return what stands in a column, or in all columns of a panel, and what is not understood."""
    present = [column for column in declared.columns if column in frame.columns]
    if not present:
        absent = len(declared.columns)
        return ColumnCheck(declared.name, declared.role, present=False, columns_absent=absent), []
    panel = isinstance(declared.feature, Panel)
    rules = mapping.rules_of(present[0] if not panel else "", declared.name)
    section = f"[{'panels' if panel else 'columns'}.{toml(declared.name)}]"
    if declared.bounds is not None:
        check, found = _check_numbers(declared, [frame[column] for column in present], rules)
    else:
        check, found = _check_words(declared, frame[present[0]], rules)
    return check, written(found, declared.name, section, rules)


def _check_numbers(
    declared: Declared, series: list[pd.Series], rules: ValueRules
) -> tuple[ColumnCheck, list[Found]]:
    numbers = reduce(Numbers.__add__, (count_numbers(declared, values) for values in series))
    check = ColumnCheck(
        declared.name,
        declared.role,
        present=True,
        columns_absent=len(declared.columns) - len(series),
        values=numbers.values,
        missing_share=1.0 - numbers.values / max(numbers.cells, 1),
        out_of_range=numbers.outside.total(),
        unreadable=numbers.unread.total(),
        unit_error=unit_error(declared, numbers),
    )
    return check, list(number_deviations(declared, numbers, rules))


def _check_words(
    declared: Declared, series: pd.Series, rules: ValueRules
) -> tuple[ColumnCheck, list[Found]]:
    words = as_text(series)
    unknown = unknown_words(declared, series)
    check = ColumnCheck(
        declared.name,
        declared.role,
        present=True,
        values=int(words.notna().sum()),
        missing_share=float(words.isna().mean()),
        unknown=unknown.total(),
        unknown_words=examples(unknown) if len(unknown) <= MOST_DISTINCT else (),
        unknown_distinct=len(unknown),
    )
    return check, list(word_deviations(declared, series, unknown, rules))


def _has_other(study: Study, column: ColumnCheck) -> bool:
    """Say whether a column is the event's and holds a third word beside the study's two.

    Where it holds neither of the two it is not mapped yet, and no patient has a known outcome.
    """
    outcome = study.outcome
    is_event = isinstance(outcome, Survival) and column.column == outcome.event
    return is_event and 0 < column.unknown < column.values


def _outcome_problems(any_known: bool, columns: tuple[ColumnCheck, ...]) -> Iterator[Problem]:
    absent = {column.role for column in columns if not column.present}
    if not any_known and "outcome" not in absent:
        yield Problem(
            "outcome",
            "No patient has a known outcome.",
            "Check the outcome columns and their `codes` in the mapping.",
        )


def _notes(
    study: Study,
    frame: pd.DataFrame,
    known: NDArray[bool_],
) -> Iterator[str]:
    for declared in declared_columns(study):
        if declared.role == "outcome" and known.any():
            values = as_text(frame.loc[known, declared.name])
            if values.nunique() == 1:
                yield f"{declared.name} is the same for every patient."
    if 0 < (~known).sum() < len(known):
        yield f"{int((~known).sum())} patients have no known outcome: they are not trained on."
    yield from _held_out_notes(study, frame, known)


def _held_out_notes(study: Study, frame: pd.DataFrame, known: NDArray[bool_]) -> Iterator[str]:
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
