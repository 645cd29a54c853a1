"""Faultless tables of the three made studies are usable, without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kits import door_tables as made
from tests.kits.door import Door
from tests.kits.typed import typed

STUDIES = [
    pytest.param(made.DOSE, made.dose_table, 200, id="dose"),
    pytest.param(made.SURV, made.surv_table, 400, id="surv"),
    pytest.param(made.BIN, made.bin_table, 200, id="bin"),
]


@pytest.mark.parametrize(("study", "table", "rows"), STUDIES)
@pytest.mark.parametrize("few", [False, True], ids=["whole", "nine"])
def test_a_faultless_table_is_usable_without_a_word(
    tmp_path: Path, study: str, table: object, rows: int, few: bool
) -> None:
    many = 9 if few else rows
    door = Door(tmp_path, study, table(many))  # type: ignore[operator]
    answer = door.check()
    assert (answer.status, answer.err) == (0, "")
    report = door.report()
    assert report["usable"]
    assert report["rows"] == many
    assert report["problems"] == report["deviations"] == report["settled"] == []
    assert report["notes"] == []


def test_the_first_mapping_of_a_faultless_table_needs_no_edit(tmp_path: Path) -> None:
    door = Door(tmp_path, made.DOSE, made.dose_table())
    door.mapping = door.draft()
    assert not [line for line in door.mapping.splitlines() if line.startswith("# ")]
    assert door.check().status == 0


def test_the_typed_command_says_usable_and_exits_with_0(tmp_path: Path) -> None:
    door = Door(tmp_path, made.DOSE, made.dose_table())
    done = typed("data", "check", door.study, door.table)
    assert (done.status, done.err) == (0, "")
    assert "usable" in done.out


def test_the_typed_command_prints_json_and_writes_proposals(tmp_path: Path) -> None:
    """`--json` stays JSON where proposals are written too."""
    import json

    table = made.dose_table()
    bad = table.edit("weight", lambda _: "-9", made.every(0.1, 200))
    door = Door(tmp_path, made.DOSE, bad)
    proposed = tmp_path / "n"
    done = typed("data", "check", door.study, door.table, "--json", "--propose", proposed)
    assert done.status != 0
    assert proposed.exists()
    assert json.loads(done.out)["usable"] is False
