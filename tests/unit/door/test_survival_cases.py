"""Survival: time has a unit and bounds, the event has two words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kits import door_tables as made
from tests.kits.door import Door, mends, values_of

GRID = (180, 365, 730, 1095, 1460)


def away_from_grid(table: made.Table) -> made.Table:
    """Return the table with no time within five days of a grid time."""
    near = [min(GRID, key=lambda g: abs(g - int(t))) for t in table.column("time")]
    times = [
        str(int(t) + 11) if abs(int(t) - g) <= 5 else t
        for t, g in zip(table.column("time"), near, strict=True)
    ]
    return table.with_column("time", times)


CLEAN = away_from_grid(made.surv_table())
UNITS = {"months": 30.4375, "weeks": 7.0, "years": 365.25}


@pytest.mark.parametrize("unit", list(UNITS))
@pytest.mark.parametrize("rows", [9, 30, 400])
def test_a_study_in_days_and_a_table_in_another_unit(tmp_path: Path, unit: str, rows: int) -> None:
    clean = CLEAN.keep(range(rows))
    dirty = clean.edit("time", lambda cell: f"{float(cell) / UNITS[unit]:.6f}", range(rows))
    door = mends(tmp_path, made.SURV, dirty, clean, exact=False)
    assert "factor" in str(door.mapping)


def test_whole_months(tmp_path: Path) -> None:
    dirty = CLEAN.edit("time", lambda cell: str(round(float(cell) / 30.44)), range(400))
    door = Door(tmp_path, made.SURV, dirty)
    answer = door.check()
    assert answer.status != 0, answer.said
    assert "month" in answer.said


def test_a_study_in_months_and_a_table_in_days(tmp_path: Path) -> None:
    study = made.study(
        "surv", "survival", made.SURV_FEATURES, made.surv_outcome((6, 12, 24, 36, 48), "months")
    )
    answer = Door(tmp_path, study, CLEAN).check()
    assert answer.status != 0, answer.said
    assert "days" in answer.said
    in_months = CLEAN.edit("time", lambda cell: f"{float(cell) / 30.4375:.6f}", range(400))
    (tmp_path / "b").mkdir()
    mends(tmp_path / "b", study, CLEAN, in_months, exact=False)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_some_patients_beyond_the_longest_life_are_refused(tmp_path: Path, share: float) -> None:
    at = made.every(share, 400)
    dirty = CLEAN.edit("time", lambda _: "99999", at)
    wanted = CLEAN.edit("time", lambda _: "", at)
    mends(tmp_path, made.SURV, dirty, wanted)


def test_events_coded_1_and_2_are_refused(tmp_path: Path) -> None:
    words = {"0": "1", "1": "2"}
    dirty = CLEAN.with_column("event", [words[cell] for cell in CLEAN.column("event")])
    mends(tmp_path, made.SURV, dirty, CLEAN, fill={"1": "0", "2": "1"})


def test_few_patients_with_events_coded_1_and_2_are_refused(tmp_path: Path) -> None:
    clean = CLEAN.keep(range(9))
    words = {"0": "1", "1": "2"}
    dirty = clean.with_column("event", [words[cell] for cell in clean.column("event")])
    mends(tmp_path, made.SURV, dirty, clean, fill={"1": "0", "2": "1"})


@pytest.mark.parametrize("word", ["2", "lost", "9"])
@pytest.mark.parametrize("many", [1, 120])
def test_a_third_word_of_the_event_is_refused(tmp_path: Path, word: str, many: int) -> None:
    at = made.every(many / 400, 400)
    dirty = CLEAN.edit("event", lambda _: word, at)
    wanted = CLEAN.edit("event", lambda _: "", at)
    mends(tmp_path, made.SURV, dirty, wanted, fill={word: ""})


def test_an_event_that_never_occurs_is_refused_until_somebody_looked(tmp_path: Path) -> None:
    dirty = CLEAN.with_column("event", ["0"] * 400)
    door = Door(tmp_path, made.SURV, dirty)
    assert door.check().status != 0
    assert door.follow().status == 0
    assert "as_is" in str(door.mapping)


@pytest.mark.parametrize("many", [1, 40, 200])
def test_negative_times_are_unknown_everywhere(tmp_path: Path, many: int) -> None:
    at = made.every(many / 400, 400)
    dirty = CLEAN.edit("time", lambda cell: f"-{cell}", at)
    wanted = CLEAN.edit("time", lambda _: "", at)
    door = mends(tmp_path, made.SURV, dirty, wanted)
    assert not np.asarray(door.values().mask)[at].any()


def test_a_time_of_nought_is_fine(tmp_path: Path) -> None:
    dirty = CLEAN.edit("time", lambda _: "0", made.every(0.1, 400))
    assert Door(tmp_path, made.SURV, dirty).check().status == 0


@pytest.mark.parametrize("cell", ["2021-05-01", "1.5.2021", "3 months", "90d", "1y"])
def test_times_that_are_no_numbers_are_refused(tmp_path: Path, cell: str) -> None:
    at = made.every(0.02, 400)
    dirty = CLEAN.edit("time", lambda _: cell, at)
    door = Door(tmp_path, made.SURV, dirty)
    assert door.check().status != 0
    answer = door.follow(fill={cell: ""})
    assert answer.status == 0, answer.said
    by_hand = {"3 months": 3 * 30.4375, "90d": 90.0, "1y": 365.25}
    wanted = CLEAN.edit("time", lambda _: str(by_hand.get(cell, "")), at)
    missing = CLEAN.edit("time", lambda _: "", at)
    masks = [
        values_of(tmp_path / str(i), made.SURV, table).mask
        for i, table in enumerate((wanted, missing))
    ]
    assert any((np.asarray(door.values().mask) == mask).all() for mask in masks)


def drafted(folder: Path, table: made.Table, *more: str) -> tuple[str, str]:
    """Return what `simulate --from-table` says, and the draft that it writes."""
    door = Door(folder, made.SURV, table)
    answer = door.type(
        *("simulate", "--from-table", door.table, "--outcome-column", "time", "--event-column"),
        *("event", "--patient-column", "patient", "--mode", "none", "--out", folder / "out"),
        *more,
    )
    drafts = sorted((folder / "out").rglob("*.toml")) if (folder / "out").exists() else []
    return answer.said, drafts[0].read_text(encoding="utf-8") if drafts else ""


CODINGS = {
    "1-2": {"1": "2", "0": "1"},
    "os-status": {"1": "DECEASED", "0": "LIVING"},
    "cbioportal": {"1": "1:DECEASED", "0": "0:LIVING"},
    "ja": {"1": "ja", "0": "nein"},
    "died": {"1": "died", "0": "survived"},
    "alive": {"1": "dead", "0": "alive"},
    "truth": {"1": "TRUE", "0": "FALSE"},
    "letters": {"1": "A", "0": "B"},
    "oui": {"1": "oui", "0": "non"},
}


@pytest.mark.parametrize("coding", list(CODINGS))
def test_a_draft_knows_the_event_or_asks(tmp_path: Path, coding: str) -> None:
    words = CODINGS[coding]
    table = CLEAN.keep(range(80))
    table = table.with_column("event", [words[cell] for cell in table.column("event")])
    said, draft = drafted(tmp_path, table)
    if draft and f'occurred = "{words["0"]}"' in draft:
        pytest.fail(f"the event is turned round: {said}")
    if "--event-is" not in said:
        assert f'occurred = "{words["1"]}"' in draft, said
        assert words["1"] in said, "what was taken for the event is not on the screen"


def test_the_event_that_is_typed_is_taken(tmp_path: Path) -> None:
    words = CODINGS["letters"]
    table = CLEAN.keep(range(80))
    table = table.with_column("event", [words[cell] for cell in table.column("event")])
    _, draft = drafted(tmp_path, table, "--event-is", "A")
    assert 'occurred = "A"' in draft
