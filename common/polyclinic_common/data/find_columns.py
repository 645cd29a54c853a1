"""Deviations of columns that the study asks for and the table lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from polyclinic_common.data.deviation import FILL_IN, Deviation, settling_lines, toml
from polyclinic_common.data.mapping import Candidate, candidates, sure_sources
from polyclinic_common.data.misfits import MAY_BE_ABSENT
from polyclinic_common.data.rules import Mapping, ValueRules
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.features import Panel
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

LIKELY = 0.9  # from here on a name is the same, or another one of the same quantity
MOST_NAMED = 3
ABSENT = "absent = true"


def absent_columns(
    study: Study, frame: pd.DataFrame, mapping: Mapping, unused: Sequence[str]
) -> Iterator[Deviation]:
    """Yield columns that the table lacks, unless somebody wrote that it does.

    Parameters
    ----------
    frame : DataFrame
        The table in the contract's columns.
    unused : sequence of str
        Columns of the extract that are not mapped: what is looked for may be among them.
    """
    for declared in declared_columns(study):
        absent = [column for column in declared.columns if column not in frame.columns]
        if isinstance(declared.feature, Panel):
            panel = mapping.panels.get(declared.name)
            said = {column for column, entry in mapping.columns.items() if entry.absent}
            absent = [column for column in absent if column not in said]
            if absent and (panel is None or not panel.absent):
                yield _panel(study, declared, absent, unused)
        elif absent and declared.role != "site":
            entry = mapping.columns.get(declared.name)
            if entry is None or not entry.absent:
                yield _column(declared, unused)


def _column(declared: Declared, unused: Sequence[str]) -> Deviation:
    """Return an absent column with its likeliest source, or with one to fill in.

    That the table has none is proposed where no column is left that could be it.
    """
    may = declared.role in MAY_BE_ABSENT
    found = candidates(declared, declared.name, unused)
    named = " or ".join(f"{toml(each.name)}, {each}" for each in found[:MOST_NAMED])
    lines: tuple[str, ...] = (f"source = {toml(FILL_IN)}",) if unused else ()
    if may and not unused:
        lines = (ABSENT,)
    if found and (found[0].score >= LIKELY or not may):
        lines = tuple(_source(found[0]))
    without = f" If the table has none: {ABSENT}." if may and lines != (ABSENT,) else ""
    section = f"[columns.{toml(declared.name)}]"
    return Deviation(
        declared.name,
        f"The {declared.role} column is absent.",
        1,
        (),
        f"Perhaps it is {named}." if named else "No column that is left has a similar name.",
        section,
        lines,
        f'If it has another name: source = "THE TABLE\'S COLUMN" in {section}.{without}',
    )


def _source(candidate: Candidate) -> list[str]:
    lines = [f"source = {toml(candidate.name)}"]
    if candidate.conversion is not None:
        updates = {"factor": candidate.conversion.factor, "offset": candidate.conversion.offset}
        lines += settling_lines(ValueRules(), updates)
    return lines


def _panel(
    study: Study, declared: Declared, absent: Sequence[str], unused: Sequence[str]
) -> Deviation:
    total = len(declared.columns)
    alike = sure_sources(study, unused)
    named = [f"{toml(alike[column])} for {toml(column)}" for column in absent if column in alike]
    return Deviation(
        declared.name,
        f"{len(absent)} of {total} columns of the panel are absent ({len(absent) / total:.0%}).",
        len(absent),
        (),
        f"Perhaps other names: {', '.join(named[:MOST_NAMED])} (`data map` writes all)."
        if named
        else "Another platform, or columns that were left out.",
        f"[panels.{toml(declared.name)}]",
        (ABSENT,),
        'Then they count as missing for every patient. Or name sources in [columns."…"].',
    )
