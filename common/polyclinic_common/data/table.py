"""Read a table and bring its values into one form, whatever program wrote it."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.errors import Code, DataError
from polyclinic_common.words import canonical_word

if TYPE_CHECKING:
    import pandas as pd

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV (UTF-8, comma) or Parquet file.

    Values of a CSV stay text, so that patient number ``007`` does not become 7.

    Raises
    ------
    DataError
        If the file cannot be read, is not UTF-8, has no rows or repeats a column name.
    """
    import pandas as pd  # noqa: PLC0415  (half a second, for those who read no table)
    import pyarrow as pa  # noqa: PLC0415

    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            frame = _read_parquet(path)
        else:
            frame = _read_csv(path)
    except UnicodeDecodeError as error:
        raise DataError(
            Code.TABLE_ENCODING,
            f"The table {path.name} is not UTF-8 text (byte {error.start}).",
            "Export it again as UTF-8.",
        ) from None
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    except (OSError, ValueError, pa.ArrowInvalid):
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
    names = [str(name).strip() for name in frame.columns]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            Code.TABLE_UNREADABLE,
            f"The table {path.name} has two columns named {twice[0]!r}.",
            "Rename or drop one of them.",
        )
    return frame.set_axis(names, axis=1)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet table whose cells mean the same whatever stands in the others.

    By default an empty cell turns a column of whole numbers into floats, which write large codes
    in another way: one patient's missing code would change everybody's word.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = pq.read_table(path)
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(index).cast(field.type.value_type)
            table = table.set_column(index, field.name, column)
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", header=None)
    names = [str(name).strip() for name in frame.iloc[0]]
    if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
        raise DataError(
            Code.TABLE_UNREADABLE,
            f"The table {path.name} is not separated by commas.",
            "Export it again with commas between the columns (and points in the numbers).",
        )
    return frame.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)


def as_text(values: pd.Series) -> pd.Series:
    """Return `values` as stripped text, missing as None.

    ``1.0``, ``1`` and true are the same word, whether the file held them as text or as numbers.
    """
    import pandas as pd  # noqa: PLC0415

    return pd.Series([_word(value) for value in values], index=values.index, dtype=object)


def _word(value: object) -> str | None:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool | np.bool_):
        text = "1" if value else "0"
    elif isinstance(value, float | np.floating):
        text = repr(float(value))
    elif isinstance(value, bytes):
        text = value.decode("utf-8", errors="replace")
    else:
        text = str(value)
    return canonical_word(text)


def read_numbers(values: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return `values` as float64 and whether anything stands in each cell, both of shape (n,).

    Missing, unreadable and infinite values become NaN; the last two count as present.
    """
    import pandas as pd  # noqa: PLC0415

    if pd.api.types.is_any_real_numeric_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = as_text(values)
        numbers = np.array([_number(word) for word in values], dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan), values.notna().to_numpy()


def _number(word: str | None) -> float:
    """Return the float64 nearest to a decimal number, NaN of anything else.

    Each cell by itself: readers of whole columns round by what stands in the other cells.
    """
    return float(word) if word is not None and _DECIMAL.fullmatch(word) else math.nan


def as_number(values: pd.Series) -> NDArray[np.float64]:
    """Return `values` as float64 of shape (n,); missing, unreadable and infinite become NaN."""
    return read_numbers(values)[0]


def column_or_missing(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column of `frame`, or one that is missing throughout where it is absent."""
    if column in frame.columns:
        return frame[column]
    import pandas as pd  # noqa: PLC0415

    return pd.Series([None] * len(frame), index=frame.index, dtype=object)
