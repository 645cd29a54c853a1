"""One byte string for one value, so that a hash names it everywhere."""

from __future__ import annotations

import hashlib
import json


def canonical_json(value: object) -> bytes:
    """Return the canonical JSON of `value`.

    Keys sorted, no white space, UTF-8, shortest round-trip floats; NaN and infinities are refused.

    Raises
    ------
    ValueError
        If a float is not finite.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def canonical_hash(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
