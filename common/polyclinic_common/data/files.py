"""Tables as people have them: CSV, Excel workbooks, Parquet."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from polyclinic_common.data.csv_file import TableForm, csv_form, read_csv, refuse_repeated_names
from polyclinic_common.data.source import is_source, read_source
from polyclinic_common.data.text_file import content_of, unreadable
from polyclinic_common.data.workbook import is_workbook, read_workbook, sheet_form
from polyclinic_common.errors import Code, DataError

_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


def read_table(path: Path, form: TableForm | None = None) -> pd.DataFrame:
    """Read a CSV file, a sheet of an Excel workbook, a Parquet file, or what a source gives.

    Values of a CSV stay text, so that patient number ``007`` does not become 7.

    Parameters
    ----------
    form : TableForm, optional
        How the file is written, as the mapping states it (default: commas, UTF-8).

    Raises
    ------
    DataError
        If the file cannot be read as stated, has no rows or repeats a column name; the text names
        the line, and what to state where that can be seen.
    """
    if is_source(path):
        frame = read_source(path)
    elif _is_parquet(path):
        frame = _read_parquet(path)
    elif is_workbook(path):
        frame = read_workbook(path, form or TableForm())
    else:
        frame = read_csv(path, form or TableForm())
    if frame.empty:
        raise DataError(
            Code.TABLE_EMPTY,
            f"The table {path.name} has no rows.",
            "Check the query that made the extract.",
        )
    return frame


def form_of(path: Path, form: TableForm) -> TableForm:
    """Return the form in which a table's file seems to be written; `form` if it is Parquet.

    Raises
    ------
    DataError
        If the file cannot be read as text or as a workbook.
    """
    if is_source(path) or _is_parquet(path):
        return form
    return sheet_form(path, form) if is_workbook(path) else csv_form(path, form)


def _is_parquet(path: Path) -> bool:
    content_of(path, 1)
    return path.suffix.lower() in {".parquet", ".pq"}


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet table whose cells mean the same whatever stands in the others.

    By default an empty cell turns a column of whole numbers into floats, which write large codes
    in another way: one patient's missing code would change everybody's word.
    """
    try:
        refuse_repeated_names(pq.read_schema(path).names, path.name)
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        raise unreadable(
            path, "is no Parquet file, or a damaged one", "Copy or export it again."
        ) from None
    unnamed = [name for name in table.column_names if _UNNAMED_INDEX.fullmatch(name)]
    table = table.drop_columns(unnamed)
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(index).cast(field.type.value_type)
            table = table.set_column(index, field.name, column)
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    return frame.set_axis([str(name).strip() for name in frame.columns], axis=1)
