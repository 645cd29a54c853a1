"""The version of this Polyclinic, and how versions are compared."""

from __future__ import annotations

import re

VERSION = "0.2.0"
VERSION_RULE = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}", re.ASCII)


def is_newer(version: str) -> bool:
    """Say whether a version, as `VERSION_RULE` has it, came after this one."""
    return numbers_of(version) > numbers_of(VERSION)


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, by which versions are in order."""
    return tuple(map(int, version.split(".")))
