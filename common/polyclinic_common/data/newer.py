"""Newer patients in the contract's columns: whatever stands there stays, to be looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polyclinic_common.data.mapping import AppliedRules, settle_rows
from polyclinic_common.data.misfits import misfits, source_of
from polyclinic_common.data.rules import Mapping
from polyclinic_common.errors import Code, DataError
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd


def newer_patients(study: Study, frame: pd.DataFrame, rules: Mapping) -> pd.DataFrame:
    """Return the patients of a hospital's table in the contract's columns.

    Raises
    ------
    DataError
        D004 if the mapping does not fit the study or the table.
    """
    contract = as_written(study, frame, rules, declared_columns(study))
    contract, _ = settle_rows(rules, contract, study)
    return contract.reset_index(drop=True)


def as_written(
    study: Study, frame: pd.DataFrame, rules: Mapping, declared: Iterable[Declared]
) -> pd.DataFrame:
    """Return the `declared` columns of a hospital's table, row by row, as far as it has them.

    Unlike for training, a code of the mapping may stand in no cell, a column may be absent, and
    nothing is refused because it is not understood: whoever asks looks at that.

    Raises
    ------
    DataError
        D004 if the mapping does not fit the study or the table.
    """
    import pandas as pd  # noqa: PLC0415

    problems = list(misfits(rules, frame, study))
    if problems:
        raise DataError(
            Code.MAPPING_INVALID,
            "The mapping does not fit the study and the table.",
            "Mend what is listed; `polyclinic data map` writes a mapping to start from.",
            problems,
        )
    columns = {}
    for each in declared:
        applied = AppliedRules(rules, each)
        for column in each.columns:
            if (source := source_of(rules, column)) in frame.columns:
                columns[column] = applied.translate(column, frame[source])
    return pd.DataFrame(columns, index=frame.index)
