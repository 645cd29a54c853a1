"""Hospitals for public data that name none, made up by a rule that anybody can repeat.

A patient goes to the hospital whose share of [0, 1) holds the first eight bytes of
SHA-256("study|patient"), read as a fraction; hospital k of K has a share proportional to 1 / k^0.7.
"""

from __future__ import annotations

from collections.abc import Iterable

from polyclinic_simulations.federation.federation import hospitals_by_hash


def hospitals_of(study: str, patients: Iterable[object], hospitals: int) -> list[str]:
    """Return the made-up hospital of every patient by the rule above."""
    return hospitals_by_hash([f"{study}|{patient}" for patient in patients], hospitals)
