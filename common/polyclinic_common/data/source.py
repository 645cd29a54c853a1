"""Data sources: systems that give a hospital's table, each behind an entry point of its own.

Where a command takes a table, it takes a description of where the rows come from as well: a TOML
file whose name ends in ``.source.toml``, with ``kind`` and what that kind wants to know. To add a
kind, write a function from these fields to a frame, which raises `DataError` alone, and name it
under the entry points ``polyclinic.sources``, as commands are named; mapping, check and freezing
follow.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyclinic_common.data.text_file import content_of, unreadable
from polyclinic_common.files import decoded

if TYPE_CHECKING:
    from pandas import DataFrame

GROUP = "polyclinic.sources"
ENDING = ".source.toml"


def is_source(path: Path) -> bool:
    """Say whether a file describes a source, by its name."""
    return path.name.lower().endswith(ENDING)


def read_source(path: Path) -> DataFrame:
    """Return the table that a description leads to: rows of patients, cells as they stand.

    Raises
    ------
    DataError
        D001 if the description cannot be read, or names no kind that is installed here; else what
        the source says.
    """
    fields = _description(path)
    kind, known = fields.pop("kind", None), _installed()
    if not isinstance(kind, str) or kind not in known:
        listed = ", ".join(sorted(known)) or "none"
        what = "describes a source of a kind that is not installed here"
        raise unreadable(path, what, f"Write `kind` as one of these: {listed}.")
    read: Callable[[Mapping[str, Any]], DataFrame] = known[kind].load()
    return read(fields)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _description(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(decoded(content_of(path)))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        remedy = 'Write `kind = "…"`, and one such line for each further field.'
        raise unreadable(path, "describes a source, and is no valid TOML", remedy) from None
