"""Words as every table gives them, and texts as they may be shown."""

from __future__ import annotations

import re
import unicodedata

MISSING_WORDS = frozenset(
    {"", "NA", "N/A", "NaN", "nan", "NaT", "NULL", "null", "None", "<NA>", "?"}
)
CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_CURLED = frozenset("\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb")
_QUOTES = {ord(mark): "'" for mark in "\u2018\u2019\u201b\u02bc\u00b4`"} | {
    ord(mark): "-" for mark in "\u2010\u2011\u2012\u2013\u2014"
}
_SIGNS = {"\u2212": "-", "\uff0d": "-", "\uff0b": "+", "\uff0e": ".", "\uff0c": ",", "\u066b": "."}
_WHOLE_NUMBER = re.compile(r"^(-?\d+)\.0+$")


def cell_word(text: str) -> str:
    """Return `text` as a mapping's codes see it: stripped, ``1.0`` as ``1``, nothing left out."""
    text = text.strip()
    return _WHOLE_NUMBER.sub(r"\1", text) if text.endswith("0") and "." in text else text


def canonical_word(text: str) -> str | None:
    """Return `text` as a table's cell is read: as `cell_word` does, missing as None."""
    word = cell_word(text)
    return None if word in MISSING_WORDS else word


def number_word(text: str) -> str:
    """Return `text` with its digits and signs as ASCII: a full-width or Arabic number is a number.

    Superscripts and fractions are not digits of a number, and stay.
    """
    return "".join(
        str(unicodedata.decimal(letter)) if letter.isdecimal() else _SIGNS.get(letter, letter)
        for letter in text
        if not is_hidden(letter)
    ).strip()


def is_control(letter: str) -> bool:
    """Say whether a letter moves, hides or reorders others on a screen instead of standing there.

    Control and format characters, those that change the direction of writing included, and
    separators of lines and paragraphs (Unicode categories Cc, Cf, Cs, Zl and Zp).
    """
    return unicodedata.category(letter) in CONTROLS


def plain(text: str) -> str:
    """Return `text` with every control character shown as such (U+FFFD): safe to print."""
    return "".join("\ufffd" if is_control(letter) else letter for letter in text)


def tidy(text: str) -> str:
    """Return `text` as people see it: composed letters (NFC), one plain blank where blanks stand.

    Blanks at the ends, letters of no width and byte order marks are taken away.
    """
    seen = "".join(letter for letter in text if not is_hidden(letter))
    return " ".join(unicodedata.normalize("NFC", seen).split())


def alike(text: str) -> str:
    """Return what two names are compared by where people compare them: case and quotes apart."""
    return tidy(unicodedata.normalize("NFKC", text)).translate(_QUOTES).casefold()


def odd_letters(text: str) -> str:
    """Say where a text holds a letter that programs put in and no eye sees; empty if it does not.

    Editors and mail programs write blanks that do not break and quotation marks that curl.
    """
    for number, line in enumerate(text.splitlines(), 1):
        for place, letter in enumerate(line, 1):
            if (
                letter in _CURLED
                or (not letter.isascii() and letter.isspace())
                or is_hidden(letter)
            ):
                name = unicodedata.name(letter, "a hidden letter").lower()
                return (
                    f"Line {number}, column {place} holds U+{ord(letter):04X} ({name}): type a "
                    "plain blank or quotation mark there, or take it out."
                )
    return ""


def is_hidden(letter: str) -> bool:
    """Say whether a letter has no width: a format character, such as a byte order mark."""
    return unicodedata.category(letter) == "Cf"
