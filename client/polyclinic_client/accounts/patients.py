"""Patient numbers as a registry of accounts keeps them: keyed hashes that only it can compare."""

from __future__ import annotations

import hmac
import unicodedata

import pandas as pd

from polyclinic_common.data.table import as_text
from polyclinic_common.words import is_control

HASH_BYTES = 16


def keyed_hashes(key: bytes, numbers: pd.Series) -> frozenset[bytes]:
    """Return the hashes of permanent patient numbers, 16 bytes each; missing ones have none."""
    words = {canonical_number(word) for word in as_text(numbers) if word is not None}
    return frozenset(hmac.digest(key, word.encode(), "sha256")[:HASH_BYTES] for word in words)


def canonical_number(word: str) -> str:
    """Return a patient number in the one form in which two extracts are compared.

    Width and case of letters, blanks and invisible characters, and the leading zeros that a
    spreadsheet drops from a whole number do not count. Two numbers that only these tell apart
    inside one hospital would be taken for one: that stops, and never lets pass.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    bare = "".join(each for each in folded if not (each.isspace() or is_control(each)))
    return (bare.lstrip("0") or "0") if bare.isdecimal() else bare


def joined(hashes: frozenset[bytes]) -> bytes:
    """Return hashes as they are stored: sorted, one after the other."""
    return b"".join(sorted(hashes))


def parted(content: bytes) -> frozenset[bytes]:
    """Return the hashes that `joined` put together."""
    return frozenset(
        content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES)
    )
