"""Patient numbers as a registry of accounts keeps them: keyed hashes that only it can compare."""

from __future__ import annotations

import hmac
import re
import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING

from polyclinic_common.data.values import as_text

if TYPE_CHECKING:
    import pandas as pd

HASH_BYTES = 16
_WHOLE_FLOAT = re.compile(r"[0-9]+(\.0+|(\.[0-9]+)?e\+[0-9]{2})")  # 123.0, 1e+16
_FILLERS = "\u115f\u1160"  # letters of Hangul that nobody sees


def keyed_hashes(key: bytes, numbers: pd.Series) -> frozenset[bytes]:
    """Return the hashes of permanent patient numbers, 16 bytes each; missing ones have none."""
    words = {canonical_number(word) for word in as_text(numbers) if word is not None}
    return frozenset(hmac.digest(key, word.encode(), "sha256")[:HASH_BYTES] for word in words)


def canonical_number(word: str) -> str:
    """Return a patient number in the one form in which two extracts are compared.

    Only its letters and digits count, without case, width and accents, digits of every script as
    those of this one; a whole number is the same as a float has it, and leading zeros, which a
    spreadsheet drops, do not count. Two numbers that only these tell apart inside one hospital
    would be taken for one: that stops, and never lets pass.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", word).casefold())
    kept = "".join(_plain_digit(each) for each in folded if each.isalnum() or each in ".+")
    if _WHOLE_FLOAT.fullmatch(kept):
        kept = str(int(Decimal(kept)))
    bare = "".join(each for each in kept if each.isalnum() and each not in _FILLERS)
    return bare.lstrip("0") or "0"


def _plain_digit(letter: str) -> str:
    digit = unicodedata.decimal(letter, None)
    return letter if digit is None else str(digit)


def joined(hashes: frozenset[bytes]) -> bytes:
    """Return hashes as they are stored: sorted, one after the other."""
    return b"".join(sorted(hashes))


def parted(content: bytes) -> frozenset[bytes]:
    """Return the hashes that `joined` put together."""
    return frozenset(
        content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES)
    )
