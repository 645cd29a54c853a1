"""Read a table and bring its values into one form, whatever program wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from polyclinic_common.errors import Code, DataError

MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "?")


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV (UTF-8, comma) or Parquet file.

    Values of a CSV stay text, so that patient number ``007`` does not become 7.

    Raises
    ------
    DataError
        If the file cannot be read, is not UTF-8, has no rows or repeats a column name.
    """
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            frame = pd.read_parquet(path)
        else:
            frame = _read_csv(path)
    except UnicodeDecodeError as error:
        raise DataError(
            Code.TABLE_ENCODING,
            f"The table {path.name} is not UTF-8 text (byte {error.start}).",
            "Export it again as UTF-8.",
        ) from None
    except (OSError, ValueError, pyarrow.ArrowInvalid):
        raise DataError(
            Code.TABLE_UNREADABLE,
            f"The table {path.name} cannot be read as CSV or Parquet.",
            "Check the path, its permissions and that it is a comma-separated or Parquet file.",
        ) from None
    if frame.empty:
        raise DataError(
            Code.TABLE_EMPTY,
            f"The table {path.name} has no rows.",
            "Check the query that made the extract.",
        )
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", header=None)
    names = [str(name).strip() for name in frame.iloc[0]]
    if len(set(names)) != len(names):
        raise ValueError("a column name stands twice")
    return frame.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)


def as_text(values: pd.Series) -> pd.Series:
    """Return `values` as stripped text, missing as None; ``1.0`` and ``1`` are the same word."""
    if pd.api.types.is_bool_dtype(values):
        words = values.map({True: "1", False: "0"})
    elif pd.api.types.is_numeric_dtype(values):
        words = values.map(_number_word, na_action="ignore")
    else:
        words = values.astype("string").str.strip()
        words = words.mask(words.isin(MISSING_WORDS))
        words = words.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    words = words.astype(object)
    words[words.isna()] = None
    return words


def _number_word(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def as_number(values: pd.Series) -> NDArray[np.float64]:
    """Return `values` as float64 of shape (n,); missing, unreadable and infinite become NaN."""
    if values.dtype == object or pd.api.types.is_string_dtype(values):
        values = as_text(values)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def column_or_missing(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column of `frame`, or one that is missing throughout where it is absent."""
    if column in frame.columns:
        return frame[column]
    return pd.Series([None] * len(frame), index=frame.index, dtype=object)
