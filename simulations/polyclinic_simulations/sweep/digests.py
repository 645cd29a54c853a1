"""Hashes of what goes into a simulation: a table, a warm start."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic_common.errors import Code, DataError, ModelError

if TYPE_CHECKING:
    import pandas as pd


def table_digest(frame: pd.DataFrame) -> str:
    """Return the hash of a table's names and values.

    Raises
    ------
    DataError
        If cells hold lists or other values that have no hash.
    """
    import pandas as pd  # noqa: PLC0415

    try:
        hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    except TypeError:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The column {_unhashable(frame)!r} holds lists or other values made of several.",
            "Give every cell one text, number or date, or drop the column.",
        ) from None
    return hashlib.sha256("|".join(map(str, frame.columns)).encode() + hashes.tobytes()).hexdigest()


def _unhashable(frame: pd.DataFrame) -> str:
    import pandas as pd  # noqa: PLC0415

    hashable = pd.api.types.is_hashable
    return next(str(name) for name, values in frame.items() if not values.map(hashable).all())


def start_digest(start: Path | None) -> str | None:
    """Return the hash of a warm start, which is part of what a run is.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    if start is None:
        return None
    try:
        return hashlib.sha256(start.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(
            Code.MODEL_UNREADABLE,
            f"The warm start {start} cannot be read ({error.strerror}).",
            "Check the path and its permissions.",
        ) from error
