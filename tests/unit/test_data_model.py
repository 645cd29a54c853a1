"""The tables in docs/data-model.md say what the code reads, and which kinds of release it makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from polyclinic_client.ledger.entries import AnyEntry
from polyclinic_client.records.journal import Began, Event
from polyclinic_common.releases.kinds import KINDS
from polyclinic_common.study.manifest import NEWER, NEWER_FEATURES
from polyclinic_common.version import VERSION
from polyclinic_common.wire.codec import PROTOCOL

ROOT = Path(__file__).parents[2]


def rows() -> dict[str, list[str]]:
    """Return the cells of the table of versions, by version."""
    text = (ROOT / "docs/data-model.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("|").removesuffix("|").split("|") for line in text.splitlines()]
    table = [[cell.strip() for cell in line] for line in lines]
    versions = [row for row in table if re.fullmatch(r"`(\d+\.\d+\.\d+|[0-9a-f]{7})`", row[0])]
    return {row[0].strip("`"): row[1:] for row in versions}


def kinds(*rows_of: Any) -> set[str]:
    return {str(each.model_fields["entry"].default) for each in rows_of}


def named(column: int) -> set[str]:
    return {word for row in rows().values() for word in re.findall(r"`([^`]+)`", row[column])}


def test_every_released_version_has_a_row_and_vectors() -> None:
    folders = {path.parent.name for path in ROOT.glob("tests/vectors/released/*/signed.json")}
    assert set(rows()) == folders
    assert list(rows())[-1] == VERSION


def test_the_table_names_this_versions_protocol_and_all_kinds_of_rows() -> None:
    assert rows()[VERSION][1] == str(PROTOCOL)
    assert named(2) == kinds(*get_args(get_args(AnyEntry)[0]))
    assert named(3) == kinds(Began, *get_args(Event))


def test_every_newer_field_stands_in_the_row_of_its_version() -> None:
    for (section, field), version in NEWER.items():
        cells = [row[0] for at, row in rows().items() if f"`{section}.{field}`" in row[0]]
        assert len(cells) == 1
        assert version >= next(at for at, row in rows().items() if f"{section}.{field}" in row[0])
    for kind, version in NEWER_FEATURES.items():
        assert f"`{kind}`" in rows()[version][0]


def test_the_table_of_kinds_names_exactly_the_kinds_of_release() -> None:
    text = (ROOT / "docs/data-model.md").read_text(encoding="utf-8")
    section = text.partition("## Kinds of release\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE) == [kind.name for kind in KINDS]
