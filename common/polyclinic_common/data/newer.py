"""Newer patients in the contract's columns: whatever stands there stays, to be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyclinic_common.data.mapping import AppliedRules, settle_rows
from polyclinic_common.data.misfits import misfits, source_of
from polyclinic_common.data.rules import Mapping
from polyclinic_common.errors import Code, DataError
from polyclinic_common.study.columns import declared_columns
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd


def newer_patients(study: Study, frame: pd.DataFrame, rules: Mapping) -> pd.DataFrame:
    """Return a hospital's table in the contract's columns.

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
    for declared in declared_columns(study):
        applied = AppliedRules(rules, declared)
        for column in declared.columns:
            if (source := source_of(rules, column)) in frame.columns:
                columns[column] = applied.translate(column, frame[source])
    contract, _ = settle_rows(rules, pd.DataFrame(columns, index=frame.index), study)
    return contract.reset_index(drop=True)
