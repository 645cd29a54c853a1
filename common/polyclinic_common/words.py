"""Words as every table gives them, and texts as they may be shown."""

from __future__ import annotations

import re
import unicodedata

MISSING_WORDS = frozenset(
    {"", "NA", "N/A", "NaN", "nan", "NaT", "NULL", "null", "None", "<NA>", "?"}
)
CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_WHOLE_NUMBER = re.compile(r"^(-?\d+)\.0+$")


def cell_word(text: str) -> str:
    """Return `text` as a mapping's codes see it: stripped, ``1.0`` as ``1``, nothing left out."""
    text = text.strip()
    return _WHOLE_NUMBER.sub(r"\1", text) if text.endswith("0") and "." in text else text


def canonical_word(text: str) -> str | None:
    """Return `text` as a table's cell is read: as `cell_word` does, missing as None."""
    word = cell_word(text)
    return None if word in MISSING_WORDS else word


def is_control(letter: str) -> bool:
    """Say whether a letter moves, hides or reorders others on a screen instead of standing there.

    Control and format characters, those that change the direction of writing included, and
    separators of lines and paragraphs (Unicode categories Cc, Cf, Cs, Zl and Zp).
    """
    return unicodedata.category(letter) in CONTROLS


def plain(text: str) -> str:
    """Return `text` with every control character shown as such (U+FFFD): safe to print."""
    return "".join("\ufffd" if is_control(letter) else letter for letter in text)
