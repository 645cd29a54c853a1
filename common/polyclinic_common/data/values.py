"""Read a table and bring its values into one form, whatever program wrote it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.iso import iso_word, plain_decimal
from polyclinic_common.text import canonical_word, cell_word, number_word

if TYPE_CHECKING:
    import pandas as pd

TRUTHS = (("1", "TRUE", "True", "true"), ("0", "FALSE", "False", "false"))
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


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
