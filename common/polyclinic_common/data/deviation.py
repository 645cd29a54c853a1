"""A deviation: something in a table that nobody has said the meaning of, and the line that does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polyclinic_common.data.rules import ValueRules
from polyclinic_common.errors import Problem
from polyclinic_common.text import is_control

MOST_EXAMPLES = 5
MOST_LETTERS = 20
FILL_IN = "FILL IN"
CELLS_IN = ("codes", "missing", "exclude")
"""Lines of a mapping that quote cells."""


@dataclass(frozen=True)
class Deviation:
    """What stands in a table and is not understood, until a person writes down what it means.

    Attributes
    ----------
    place : str
        The column, the panel, or the patient number's column.
    what : str
        How many of what; without anything that stands in a cell.
    count : int
        Cells or rows.
    examples : tuple of str
        Up to five cells, shortened: for the hospital alone.
    cause : str
        The probable cause, without anything that stands in a cell.
    section : str
        The section of the mapping file: ``[columns."weight"]``.
    lines : tuple of str
        The lines of that section which settle it, if the cause is the true one; may hold cells.
    otherwise : str
        What to write if it is not.
    """

    place: str
    what: str
    count: int
    examples: tuple[str, ...]
    cause: str
    section: str
    lines: tuple[str, ...]
    otherwise: str = ""

    def problem(self) -> Problem:
        """Return the reason against using the table, without anything that stands in a cell."""
        public = [line for line in self.lines if not line.startswith(CELLS_IN)]
        written = f"If so, write in {self.section} of the mapping: {'; '.join(public)}."
        if not self.lines:
            return Problem(self.place, f"{self.what} {self.cause}", self.otherwise)
        if len(public) < len(self.lines):
            written = (
                f"`data check --propose FILE` writes the lines of {self.section} that say what "
                "they mean."
            )
        return Problem(self.place, f"{self.what} {self.cause}", written)


@dataclass(frozen=True)
class Found:
    """A deviation of one column before its lines are written: `updates` are fields of its rules."""

    what: str
    count: int
    examples: tuple[str, ...]
    cause: str
    updates: Mapping[str, Any] = field(default_factory=dict)
    otherwise: str = ""


def written(found: Sequence[Found], place: str, section: str, rules: ValueRules) -> list[Deviation]:
    """Return the deviations of one column, each with the lines that settle it.

    Two of them that put something in the same line show that line with both in it.
    """
    everything: dict[str, Any] = {}
    for each in found:
        added = merged(ValueRules.model_validate(_kept(everything)), each.updates)
        everything |= added
    return [
        Deviation(
            place,
            each.what,
            each.count,
            each.examples,
            each.cause,
            section,
            tuple(settling_lines(rules, {name: everything[name] for name in each.updates})),
            each.otherwise,
        )
        for each in found
    ]


def _kept(updates: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in updates.items() if name in {"codes", "missing", "units"}}


def merged(rules: ValueRules, updates: Mapping[str, Any]) -> dict[str, Any]:
    """Return `updates` with the codes and missing codes that `rules` have already."""
    result = dict(updates)
    if "codes" in result:
        result["codes"] = {**(rules.codes or {}), **result["codes"]}
    if "missing" in result:
        result["missing"] = tuple(dict.fromkeys((*rules.missing, *result["missing"])))
    if "units" in result:
        result["units"] = {**(rules.units or {}), **result["units"]}
    return result


def settling_lines(rules: ValueRules, updates: Mapping[str, Any]) -> list[str]:
    """Return the lines of a mapping's section that put `updates` into its rules."""
    return [f"{name} = {toml(value)}" for name, value in merged(rules, updates).items() if value]


def toml(value: object) -> str:
    """Return a value as TOML writes it; letters that nobody sees are written as escapes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        return "".join(f"\\u{ord(c):04x}" if _hidden(c) else c for c in text)
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{toml(k)} = {toml(v)}' for k, v in value.items())} }}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _hidden(letter: str) -> bool:
    return (is_control(letter) or letter == "\u00a0") and ord(letter) < 0x10000


def shortened(cell: str) -> str:
    """Return a cell as it may be shown on the hospital's own screen."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in cell)
    return printable if len(printable) <= MOST_LETTERS else printable[: MOST_LETTERS - 1] + "…"
