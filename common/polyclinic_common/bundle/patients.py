"""Patients of a hospital in the contract's columns, as far as a prediction needs them.

A table is refused where a whole column is not what the study asks for: absent, in another unit,
coded in another way. One odd patient blocks no other: see :mod:`polyclinic_common.bundle.flags`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from polyclinic_common.bundle.flags import flag_rows, inputs_of
from polyclinic_common.data.rules import Mapping as Rules
from polyclinic_common.errors import BundleError, Code, Problem
from polyclinic_common.study.columns import Declared
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3  # odd cells that can make a column odd as a whole
MOST_SHARE = 0.5


def to_contract(study: Study, frame: pd.DataFrame, rules: Rules | None = None) -> pd.DataFrame:
    """Return a hospital's table in the contract's columns: what the model reads, and the patient.

    Parameters
    ----------
    frame : DataFrame of n rows
        The table; outcomes need not be in it.
    rules : Mapping, optional
        The mapping with which the hospital's tables are read.

    Raises
    ------
    DataError
        D004 if the mapping does not fit the table.
    BundleError
        B011 with one problem for every column that is not what the study asks for.
    """
    from polyclinic_common.data.newer import as_written  # noqa: PLC0415  (heavy)

    wanted = inputs_of(study)
    names = {column for each in wanted for column in each.columns}
    rules = rules or Rules()
    kept = {name: entry for name, entry in rules.columns.items() if name in names}
    rules = rules.model_copy(update={"columns": kept})
    contract = as_written(study, frame, rules, wanted)
    unused = [str(name) for name in frame.columns if name not in contract.columns]
    refuse_unlike(study, contract, rules, unused)
    return contract


def refuse_unlike(
    study: Study, frame: pd.DataFrame, rules: Rules, unused: list[str] | None = None
) -> None:
    """Refuse a table of which a whole column is not what the study asks for.

    Raises
    ------
    BundleError
        B011.
    """
    from polyclinic_common.data.find_columns import absent_columns  # noqa: PLC0415  (heavy)

    inputs = inputs_of(study)
    wanted = {each.name for each in inputs}
    problems = [
        deviation.problem()
        for deviation in absent_columns(study, frame, rules, unused or [])
        if deviation.place in wanted
    ]
    for declared in inputs:
        problems += _of_column(declared, frame, rules)
    if problems:
        raise BundleError(
            Code.TABLE_UNLIKE,
            "No prediction is made: columns of the table are not what the model was trained on.",
            "Mend what is listed, or say in a mapping what it means (`polyclinic data map`), and "
            "give it with --map.",
            problems,
        )


def _of_column(declared: Declared, frame: pd.DataFrame, rules: Rules) -> Iterator[Problem]:
    """Yield why a column as a whole is another one, where so many cells of it are odd."""
    from polyclinic_common.data.check import check_column  # noqa: PLC0415  (heavy)

    check, deviations = check_column(declared, frame, rules)
    odd = check.out_of_range + check.unreadable + check.unknown
    cells = check.values or 1
    whole = check.unit_error is not None or odd > MOST_SHARE * cells
    if odd >= FEWEST and whole:
        yield from (deviation.problem() for deviation in deviations)


def parse_patient(given: Sequence[str]) -> dict[str, str]:
    """Return the values of one patient from words like ``age=61``.

    Raises
    ------
    BundleError
        B010 if a word has no ``=``, or a column stands twice.
    """
    pairs = [word.partition("=") for word in given]
    names = [name.strip() for name, _, _ in pairs]
    if not all(equals and name.strip() for name, equals, _ in pairs) or len(set(names)) < len(
        names
    ):
        raise BundleError(
            Code.PATIENT_INVALID,
            "The patient cannot be read: every word behind --patient is COLUMN=VALUE, each once.",
            'Write for example: --patient age=61 "stage=II b".',
        )
    return dict(zip(names, (value for _, _, value in pairs), strict=True))


def patient_frame(study: Study, given: Mapping[str, str]) -> pd.DataFrame:
    """Return one patient in the contract's columns.

    Parameters
    ----------
    given : mapping of str to str
        Values by column; what is left out, or empty, is missing.

    Raises
    ------
    BundleError
        B010 with one problem for every column that the study does not know, and for every value
        that it does not understand.
    """
    import pandas as pd  # noqa: PLC0415

    columns = {column: each for each in inputs_of(study) for column in each.columns}
    problems = [
        Problem(name, "The model reads no such column.", f"It reads: {', '.join(columns)}.")
        for name in given
        if name not in columns
    ]
    row = {name: given.get(name, "").strip() or None for name in columns}
    frame = pd.DataFrame({name: pd.Series([value], dtype=object) for name, value in row.items()})
    problems += [
        Problem(
            flag.column,
            "The study does not know this value.",
            f"Give: {_asked(study, flag.column)}.",
        )
        for flag in flag_rows(study, frame)[0]
        if flag.kind == "not covered"
    ]
    if problems:
        raise BundleError(
            Code.PATIENT_INVALID,
            "The patient cannot be read as it was given.",
            "Correct what is listed; leave out what is not known.",
            problems,
        )
    return frame


def _asked(study: Study, name: str) -> str:
    return next(each.what for each in inputs_of(study) if each.name == name)


def numbers_of(study: Study, frame: pd.DataFrame, rules: Rules) -> pd.Series | None:
    """Return the patient numbers of a hospital's table, None where it has no such column."""
    from polyclinic_common.data.misfits import source_of  # noqa: PLC0415  (heavy)

    name = study.cohort.patient_id
    source = source_of(rules, name)
    return frame[source].rename(name) if source in frame.columns else None
