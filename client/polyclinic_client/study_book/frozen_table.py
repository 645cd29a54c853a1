"""The table of a study as it is frozen: the columns of the contract, and nothing else."""

from __future__ import annotations

import io

import pandas as pd

from polyclinic_common.data.values import as_number, as_text
from polyclinic_common.study.columns import declared_columns
from polyclinic_common.study.manifest import Study


def freeze(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is frozen: the contract's columns, numbers as float64, words as text.

    What encodes the same before and after: unreadable numbers are missing in both.
    """
    columns = {}
    for declared in declared_columns(study):
        read = as_text if declared.bounds is None else as_number
        for column in declared.columns:
            if column in frame.columns:
                columns[column] = pd.Series(read(frame[column]), index=frame.index)
    return pd.DataFrame(columns).reset_index(drop=True)


def _as_parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
