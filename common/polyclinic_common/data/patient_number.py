"""Patient numbers in the form in which two rows of one table are compared."""

from __future__ import annotations

import unicodedata

HIDDEN = {"C", "Z"}  # general categories: control and format characters, separators
MARKS = {"Mn", "Me"}  # variation selectors and other marks without a width of their own


def same_number(word: str) -> str:
    """Return a patient number so that spellings of one number are the same text.

    Not counted: width and case of letters, blanks, invisible characters, quotation marks at the
    ends, the script of digits. Leading zeros count: 007 and 07 are two patients of a hospital that
    writes them so. The promise is for a patient with all rows together.
    """
    if word.isascii() and word.isprintable():  # nothing below changes such a word otherwise
        return word.replace(" ", "").lower().strip("'\"`")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    return "".join(map(_plain, folded)).strip("'\"`")


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in HIDDEN or category in MARKS:
        return ""
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
