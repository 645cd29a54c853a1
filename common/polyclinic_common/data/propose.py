"""Proposals for a mapping file: every line commented, for a person to accept.

Lines that begin with ``# `` are proposals: without these two letters they are in effect. Lines that
begin with ``##`` only explain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from polyclinic_common.data.csv_file import TableForm, form_lines
from polyclinic_common.data.deviation import Deviation, toml
from polyclinic_common.data.rules import ColumnSource, PatientRules
from polyclinic_common.text import plain

HEAD = (
    "## Proposals: nothing here is in effect before a person has looked at it. A line that begins",
    "## with one # is accepted by deleting that # and the blank behind it; ## only explains.",
)
_FIELDS = {*ColumnSource.model_fields, *PatientRules.model_fields, *TableForm.model_fields}
_PROPOSED = re.compile(
    rf"# (\[(table|patients|columns\b.*|panels\b.*)\]|({'|'.join(sorted(_FIELDS))}) = .*)"
)


def propose(mapping: str, deviations: Sequence[Deviation]) -> str:
    """Return the text of a mapping file with the lines that settle `deviations`, commented.

    A section that stands there as a proposal already is left as it is.

    Parameters
    ----------
    mapping : str
        Text of the mapping so far; empty if there is none.
    """
    lines = [*HEAD, *(line for line in mapping.splitlines() if line not in HEAD)]
    for section in dict.fromkeys(each.section for each in deviations):
        own = [each for each in deviations if each.section == section]
        block = _block(own)
        place = _place(lines, section)
        if f"# {_bare(section)}" in {f"# {_bare(line[2:])}" for line in lines if line[:2] == "# "}:
            continue
        if place is None and any(each.lines for each in own):
            lines += ["", f"# {section}", *_source(section, own), *block]
        elif place is None:
            lines += ["", f"## {section}", *block]
        else:
            lines[place:place] = block
    return "\n".join(lines) + "\n"


def without_proposals(mapping: str) -> str:
    """Return the text of a mapping file without proposals that nobody accepted.

    What explains them goes with them; a section of proposals alone goes as a whole.
    """
    paragraphs = re.split(r"\n[ \t]*\n", mapping)
    left = (_without_proposals(paragraph.splitlines()) for paragraph in paragraphs)
    return "\n\n".join("\n".join(lines) for lines in left if lines)


def _without_proposals(lines: Sequence[str]) -> list[str]:
    if not any(_PROPOSED.fullmatch(line) for line in lines):
        return list(lines)
    if all(line.startswith("#") or not line.strip() for line in lines):
        return []
    head = next(n for n, line in enumerate(lines) if line.strip() and line[0] != "#")
    return [
        line
        for number, line in enumerate(lines)
        if not _PROPOSED.fullmatch(line) and (number < head or not line.startswith("##"))
    ]


def propose_form(mapping: str, form: TableForm) -> str:
    """Return the text of a mapping file with ``[table]`` for a CSV file of `form`, commented."""
    stated = [f"# {line}" for line in ("[table]", *form_lines(form))]
    return "\n".join([*HEAD, *stated, "", *mapping.splitlines()]) + "\n"


def _block(deviations: Sequence[Deviation]) -> list[str]:
    """Return the lines of one section: explanations, and each proposed line once."""
    block = []
    for each in deviations:
        shown = f" For instance: {', '.join(map(toml, each.examples))}." if each.examples else ""
        block.append(f"## {plain(f'{each.what} {each.cause}{shown}')}")
        if each.otherwise:
            block.append(f"##   {plain(each.otherwise)}")
    return block + [f"# {line}" for line in dict.fromkeys(n for d in deviations for n in d.lines)]


def _source(section: str, deviations: Sequence[Deviation]) -> list[str]:
    """Return the source of a column that the mapping does not name: the column of that name."""
    if any(line.startswith(("source", "absent")) for each in deviations for line in each.lines):
        return []
    column = section.removeprefix("[columns.").removesuffix("]")
    return [f"# source = {column}"] if section.startswith("[columns.") else []


def _place(lines: Sequence[str], section: str) -> int | None:
    """Return the place behind the lines of `section`, if that section is in effect."""
    wanted = _bare(section)
    for number, line in enumerate(lines):
        if _bare(line.split("#")[0]) == wanted:
            behind = range(number + 1, len(lines))
            return next(
                (n for n in behind if not lines[n].strip() or lines[n][0] == "["), len(lines)
            )
    return None


def _bare(header: str) -> str:
    return "".join(letter for letter in header if letter not in "\"' \t")
