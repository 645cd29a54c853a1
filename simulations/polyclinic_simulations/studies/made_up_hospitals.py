"""Hospitals for public data that name none, made up by a rule that anybody can repeat.

A patient goes to the hospital whose share of [0, 1) holds the first eight bytes of
SHA-256("study|patient"), read as a fraction; hospital k of K has a share proportional to 1 / k^0.7.
"""

from __future__ import annotations

import hashlib

import numpy as np

UNEVENNESS = 0.7


def hospital_of(study: str, patient: object, hospitals: int) -> str:
    """Return the made-up hospital of a patient by the rule above."""
    shares = 1.0 / np.arange(1, hospitals + 1) ** UNEVENNESS
    digest = hashlib.sha256(f"{study}|{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2.0**64
    index = int(np.searchsorted(np.cumsum(shares) / shares.sum(), place, side="right"))
    return f"hospital {index + 1:02d}"
