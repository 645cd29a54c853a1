"""Words as every table gives them: one canonical text for what programs write differently."""

from __future__ import annotations

import re

MISSING_WORDS = frozenset(
    {"", "NA", "N/A", "NaN", "nan", "NaT", "NULL", "null", "None", "<NA>", "?"}
)
_WHOLE_NUMBER = re.compile(r"^(-?\d+)\.0+$")


def canonical_word(text: str) -> str | None:
    """Return `text` as a table's cell is read: stripped, ``1.0`` as ``1``, missing as None."""
    text = text.strip()
    if text in MISSING_WORDS:
        return None
    return _WHOLE_NUMBER.sub(r"\1", text) if text.endswith("0") and "." in text else text
