"""Read a table and bring its values into one form, whatever program wrote it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.csv_file import TableForm, csv_form, read_csv, refuse_repeated_names
from polyclinic_common.data.iso import iso_word, plain_decimal
from polyclinic_common.data.text_file import content_of, unreadable
from polyclinic_common.data.workbook import is_workbook, read_workbook, sheet_form
from polyclinic_common.errors import Code, DataError
from polyclinic_common.text import canonical_word, cell_word, number_word

if TYPE_CHECKING:
    import pandas as pd

TRUTHS = (("1", "TRUE", "True", "true"), ("0", "FALSE", "False", "false"))
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_table(path: Path, form: TableForm | None = None) -> pd.DataFrame:
    """Read a CSV file, a sheet of an Excel workbook or a Parquet file.

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
    if _is_parquet(path):
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
    if _is_parquet(path):
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
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

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


def as_text(values: pd.Series) -> pd.Series:
    """Return `values` as stripped text, missing as None.

    ``1.0`` and ``1`` are the same word, whether the file held them as text or as numbers.
    """
    return _each(values, canonical_word)


def as_cells(values: pd.Series) -> pd.Series:
    """Return `values` as a mapping's codes see them: as `as_text`, but with nothing left out.

    An empty cell is ``""``; ``None`` or ``NA`` that was written is the word that was written.
    """
    return _each(values, cell_word).where(values.notna(), "")


def as_words(values: pd.Series, vocabulary: Sequence[str]) -> pd.Series:
    """Return `values` as text, true and false as the words of `vocabulary` that mean them.

    A program's truth value is ``1`` or ``TRUE`` depending on the format it was written to; where
    the vocabulary has one of them and not the other, both are read as that one.
    """
    words = as_text(values)
    meant = _truths(vocabulary)
    return words.map(lambda word: meant.get(word, word)) if meant else words


def _truths(vocabulary: Sequence[str]) -> dict[str | None, str]:
    meant: dict[str | None, str] = {}
    for spellings in TRUTHS:
        known = [word for word in vocabulary if word in spellings]
        if len(known) == 1:
            meant |= dict.fromkeys(spellings, known[0])
    return meant


def _each(values: pd.Series, read: Callable[[str], str | None]) -> pd.Series:
    """Read every cell by itself, every distinct text of a column of texts once."""
    import pandas as pd  # noqa: PLC0415

    if pd.api.types.infer_dtype(values, skipna=True) == "string":
        places, texts = pd.factorize(values)
        words = np.array([*map(read, texts), None], dtype=object)[places]  # -1, missing, is last
    else:
        present = zip(values, values.notna(), strict=True)
        words = np.array([read(_text(v)) if there else None for v, there in present], dtype=object)
    return pd.Series(words, index=values.index, dtype=object)


def _text(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "1" if value else "0"
    if isinstance(value, float | np.floating):
        return repr(float(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, Decimal):
        return plain_decimal(value)
    return iso_word(value) if isinstance(value, date) else str(value)


def read_numbers(values: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return `values` as float64 and whether anything stands in each cell, both of shape (n,).

    Missing, unreadable and infinite values become NaN; the last two count as present.
    """
    import pandas as pd  # noqa: PLC0415

    if pd.api.types.is_any_real_numeric_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = as_text(values)
        places, words = pd.factorize(values)
        numbers = np.array([*map(_number, words), math.nan])[places]  # -1, missing, is last
    return np.where(np.isfinite(numbers), numbers, np.nan), values.notna().to_numpy()


def _number(word: str) -> float:
    """Return the float64 nearest to a decimal number, NaN of anything else.

    Each cell by itself: readers of whole columns round by what stands in the other cells.
    """
    if not word.isascii():
        word = number_word(word)
    return float(word) if _DECIMAL.fullmatch(word) else math.nan


def as_number(values: pd.Series) -> NDArray[np.float64]:
    """Return `values` as float64 of shape (n,); missing, unreadable and infinite become NaN."""
    return read_numbers(values)[0]


def column_or_missing(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column of `frame`, or one that is missing throughout where it is absent."""
    if column in frame.columns:
        return frame[column]
    import pandas as pd  # noqa: PLC0415

    return pd.Series([None] * len(frame), index=frame.index, dtype=object)
