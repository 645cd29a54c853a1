"""Patients: one promise a patient, whatever dresses the number wears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kits import door_tables as made
from tests.kits.door import Door, assert_same, mends, values_of

CLEAN = made.bin_table()
AGAIN: dict[str, Callable[[str], str]] = {
    "zero-width": lambda cell: cell + "\u200b",
    "zero-width-joiner": lambda cell: cell[0] + "\u200d" + cell[1:],
    "mark": lambda cell: "\ufeff" + cell,
    "lower": str.lower,
    "full-width": made.full_width,
    "no-break-space": lambda cell: cell + "\u00a0",
    "soft-hyphen": lambda cell: cell[0] + "\u00ad" + cell[1:],
    "same": str,
}


@pytest.mark.parametrize("dress", list(AGAIN))
@pytest.mark.parametrize("many", [1, 60, 200])
def test_a_patient_again_under_a_number_that_looks_the_same(
    tmp_path: Path, dress: str, many: int
) -> None:
    rows = [CLEAN.rows[i] for i in made.every(many / 200, 200)]
    dirty = CLEAN.plus([(AGAIN[dress](row[0]), *row[1:]) for row in rows])
    door = Door(tmp_path, made.BIN, dirty)
    first = door.check()
    assert first.status != 0, first.said
    answer = door.follow()
    assert answer.status == 0, answer.said
    assert len(door.values().patients) == 200
    wanted = values_of(tmp_path / "wanted", made.BIN, CLEAN)
    found = door.values()
    assert len(found.x) == len(wanted.x)
    assert (found.x == wanted.x).all()
    assert (found.mask == wanted.mask).all()


def test_other_values_in_the_second_row_are_not_mixed_in_silence(tmp_path: Path) -> None:
    first = CLEAN.rows[0]
    other = (first[0], first[1], "33", "no", "no")
    door = Door(tmp_path, made.BIN, CLEAN.plus([other]))
    assert door.check().status != 0
    door.mapping = '[patients]\nrows = "first"\n'
    assert door.check().status == 0
    assert_same(door.values(), values_of(tmp_path / "wanted", made.BIN, CLEAN))
    door.mapping = '[patients]\nrows = "last"\n'
    last = values_of(
        tmp_path / "last", made.BIN, made.Table(CLEAN.header, (other, *CLEAN.rows[1:]))
    )
    found = door.values()
    order = [found.patients.index(number) for number in last.patients]
    assert (found.x[order] == last.x).all()
    assert (found.y[order] == last.y).all()


def test_numbers_that_a_spreadsheet_shortened_are_told(tmp_path: Path) -> None:
    dirty = CLEAN.with_column("patient", ["4.51E+11"] * 200)
    answer, text = Door(tmp_path, made.BIN, dirty).proposal()
    assert answer.status != 0
    assert "spreadsheet" in answer.said or "shortened" in answer.said, answer.said
    assert "Make it one row a patient" not in answer.said
    assert "rows =" not in text, "keeping one of 200 rows is no remedy for shortened numbers"


@pytest.mark.parametrize("many", [1, 40, 200])
def test_some_shortened_numbers_are_told(tmp_path: Path, many: int) -> None:
    at = made.every(many / 200, 200)
    numbers = [f"{451000000000 + i}" for i in range(200)]
    dirty = CLEAN.with_column("patient", numbers)
    dirty = dirty.edit("patient", lambda _: "4.51E+11", at)
    answer = Door(tmp_path, made.BIN, dirty).check()
    assert answer.status != 0, answer.said
    assert "shortened" in answer.said or "spreadsheet" in answer.said, answer.said


def test_numbers_with_a_decimal_of_nought_are_the_same_numbers(tmp_path: Path) -> None:
    numbers = [str(1000 + i) for i in range(200)]
    wanted = CLEAN.with_column("patient", numbers)
    dirty = wanted.edit("patient", lambda cell: cell + ".0", range(200))
    door = Door(tmp_path, made.BIN, dirty)
    assert door.follow().status == 0
    assert_same(door.values(), values_of(tmp_path / "wanted", made.BIN, wanted))


def test_one_patient_as_a_number_and_with_a_decimal_of_nought(tmp_path: Path) -> None:
    numbers = [str(1000 + i) for i in range(200)]
    base = CLEAN.with_column("patient", numbers)
    dirty = base.plus([("1000.0", *base.rows[0][1:])])
    assert Door(tmp_path, made.BIN, dirty).check().status != 0


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_lost_zeros_are_told_where_the_length_says_so(tmp_path: Path, share: float) -> None:
    """The same patient as 0042 and as 42 is one patient; a person must say so."""
    base = CLEAN.with_column("patient", [f"{i + 1:06d}" for i in range(200)])
    again = [base.rows[i] for i in made.every(share, 200)]
    dirty = base.plus([(row[0].lstrip("0"), *row[1:]) for row in again])
    answer = Door(tmp_path, made.BIN, dirty).check()
    assert answer.status != 0, answer.said
    assert "zero" in answer.said, answer.said


def test_leading_zeros_are_kept(tmp_path: Path) -> None:
    base = CLEAN.with_column("patient", [f"{i:06d}" for i in range(200)])
    door = Door(tmp_path, made.BIN, base)
    assert door.check().status == 0
    assert door.values().patients[7] == "000007"


@pytest.mark.parametrize("many", [1, 20])
def test_rows_without_a_number_are_asked_for(tmp_path: Path, many: int) -> None:
    at = made.every(many / 200, 200)
    dirty = CLEAN.edit("patient", lambda _: "", at)
    wanted = CLEAN.keep([i for i in range(200) if i not in at])
    mends(tmp_path, made.BIN, dirty, wanted)


@pytest.mark.parametrize("word", ["NA", "  ", "\u200b", "n/a", "-"])
def test_a_number_that_says_nothing_is_no_number(tmp_path: Path, word: str) -> None:
    at = made.every(0.1, 200)
    answer = Door(tmp_path, made.BIN, CLEAN.edit("patient", lambda _: word, at)).check()
    assert answer.status != 0, answer.said


def test_several_visits_a_patient_are_refused_with_a_rule(tmp_path: Path) -> None:
    base = CLEAN.keep(range(100))
    dirty = base.plus(base.rows).plus(base.rows)
    mends(tmp_path, made.BIN, dirty, base)


def test_a_first_look_at_several_visits_a_patient_warns(tmp_path: Path) -> None:
    base = CLEAN.keep(range(60))
    door = Door(tmp_path, made.BIN, base.plus(base.rows).plus(base.rows))
    answer = door.type(
        *("simulate", "--from-table", door.table, "--site-column", "hospital"),
        *("--outcome-column", "response", "--mode", "none", "--out", tmp_path / "out"),
    )
    assert "--patient-column" in answer.said or "several rows" in answer.said, answer.said


def test_patients_who_objected_are_left_out(tmp_path: Path) -> None:
    door = Door(tmp_path, made.BIN, CLEAN)
    door.mapping = '[patients]\nexclude = ["P0003", "P0007"]\n'
    assert door.check().status == 0
    wanted = CLEAN.keep([i for i in range(200) if i not in (2, 6)])
    assert_same(door.values(), values_of(tmp_path / "wanted", made.BIN, wanted))


@pytest.mark.parametrize("written", ["p0003", "P0003\\u200b", " P0003 ", "Ｐ０００３"])
def test_an_objection_finds_the_patient_however_written(tmp_path: Path, written: str) -> None:
    """The patient is left out, or the person is told that nobody was."""
    door = Door(tmp_path, made.BIN, CLEAN)
    door.mapping = f'[patients]\nexclude = ["{written}"]\n'
    if door.check().status == 0:
        assert "P0003" not in door.values().patients


def test_an_objection_of_nobody_is_told(tmp_path: Path) -> None:
    door = Door(tmp_path, made.BIN, CLEAN)
    door.mapping = '[patients]\nexclude = ["Q0003"]\n'
    answer = door.check()
    assert answer.status != 0 or "exclude" in answer.said


SPLIT = made.BIN.replace(
    'holdout = { kind = "fraction", fraction = 0.25 }',
    'holdout = { kind = "column", column = "split", test = "test" }',
)


@pytest.mark.parametrize(
    "word", ["Test", "TEST", "test\u200b", "ｔｅｓｔ", "tset", "validation", ""]
)
@pytest.mark.parametrize("share", [0.01, 1.0])
def test_words_of_the_split_are_understood_or_refused(
    tmp_path: Path, word: str, share: float
) -> None:
    """Who is held out decides who is trained on: a word that is not understood refuses."""
    split = ["test" if i % 4 == 0 else "train" for i in range(200)]
    clean = CLEAN.with_column("split", split)
    held = [i for i in range(200) if i % 4 == 0]
    at = held[: max(1, round(share * len(held)))]
    dirty = clean.edit("split", lambda _: word, at)
    answer = Door(tmp_path, SPLIT, clean).check()
    assert answer.status == 0, answer.said
    answer = Door(tmp_path, SPLIT, dirty).check()
    assert answer.status != 0, f"held-out patients become training patients: {answer.said}"
