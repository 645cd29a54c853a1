"""Genotypes as laboratories write them: read rightly, asked for, or missing; never turned round."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kits import door_tables as made
from tests.kits.door import Door, assert_same, mends, values_of

CLEAN = made.dose_table()
STRAND = {"C/C": "G/G", "C/T": "G/A", "T/T": "A/A"}


def becomes(folder: Path, dirty: made.Table, wanted: made.Table, **fill: str) -> Door:
    """See that a table is, at once or by its own proposals, the wanted one."""
    folder.mkdir(exist_ok=True)
    door = Door(folder, made.DOSE, dirty)
    answer = door.follow(fill=fill)
    assert answer.status == 0, answer.said
    assert_same(door.values(), values_of(folder / "wanted", made.DOSE, wanted))
    return door


@pytest.mark.parametrize("rows", [9, 200])
def test_all_calls_on_the_other_strand(tmp_path: Path, rows: int) -> None:
    clean = made.dose_table(rows)
    dirty = clean.edit("VKORC1", STRAND.__getitem__, range(rows))
    door = Door(tmp_path, made.DOSE, dirty)
    answer = door.check()
    assert answer.status != 0
    assert "strand" in answer.said
    (tmp_path / "b").mkdir()
    mends(tmp_path / "b", made.DOSE, dirty, clean)


@pytest.mark.parametrize("share", [0.005, 0.4])
def test_some_calls_on_the_other_strand(tmp_path: Path, share: float) -> None:
    dirty = CLEAN.edit("VKORC1", STRAND.__getitem__, made.every(share, 200))
    door = Door(tmp_path, made.DOSE, dirty)
    answer = door.check()
    assert answer.status != 0
    assert "strand" in answer.said, answer.said


@pytest.mark.parametrize(("reference", "effect"), [("C", "G"), ("G", "C"), ("A", "T"), ("T", "A")])
def test_a_study_with_a_palindromic_snp_is_asked_for_its_strand(
    tmp_path: Path, reference: str, effect: str
) -> None:
    features = (made.numeric("age", "years", 18, 90), made.snp("VKORC1", reference, effect))
    study = made.study("dose", "the dose", features, made.DOSE_OUTCOME)
    door = Door(tmp_path, study, CLEAN)
    answer = door.type("study", "check", door.study)
    assert "strand" in answer.said, answer.said


HETEROZYGOUS = [
    "C/T", "T/C", "CT", "TC", "C|T", "C;T", "C, T", "C-T", "C>T", "[C];[T]", "c/t", "C / T",
    "rs9923231C/rs9923231T", "rs9923231 reference (C)/rs9923231 variant (T)",
]  # fmt: skip


@pytest.mark.parametrize("cell", HETEROZYGOUS)
@pytest.mark.parametrize("share", [0.005, 0.1, 1.0])
def test_one_copy_in_any_notation(tmp_path: Path, cell: str, share: float) -> None:
    at = made.every(share, 200)
    dirty = CLEAN.edit("VKORC1", lambda _: cell, at)
    wanted = CLEAN.edit("VKORC1", lambda _: "C/T", at)
    becomes(tmp_path, dirty, wanted, **{cell: "C/T"})


NO_CALLS = ["./.", ".|.", "NC", "no call", "No Call", "0/0?", "--", "-/-", "N/N", "NN", "", "."]


@pytest.mark.parametrize("cell", NO_CALLS)
@pytest.mark.parametrize("share", [0.005, 0.6, 1.0])
def test_a_call_that_was_not_made_is_missing(tmp_path: Path, cell: str, share: float) -> None:
    at = made.every(share, 200)
    dirty = CLEAN.edit("VKORC1", lambda _: cell, at)
    wanted = CLEAN.edit("VKORC1", lambda _: "", at)
    door = Door(tmp_path, made.DOSE, dirty)
    answer = door.follow(fill={cell: ""})
    assert answer.status == 0, answer.said
    clean = Door(tmp_path, made.DOSE, wanted, "clean.csv")
    assert_same(door.values(), clean.values())


def test_numbers_of_a_variant_call_need_declared_alleles(tmp_path: Path) -> None:
    """0/1 is C/T only if 0 is C: a person says so."""
    numbers = {"C/C": "0/0", "C/T": "0/1", "T/T": "1/1"}
    dirty = CLEAN.edit("VKORC1", numbers.__getitem__, range(200))
    assert Door(tmp_path, made.DOSE, dirty).check().status != 0
    (tmp_path / "b").mkdir()
    fill = {number: call for call, number in numbers.items()}
    becomes(tmp_path / "b", dirty, CLEAN, **fill)


def test_numbers_of_a_variant_call_mixed_into_letters(tmp_path: Path) -> None:
    numbers = {"C/C": "0/0", "C/T": "0/1", "T/T": "1/1"}
    dirty = CLEAN.edit("VKORC1", numbers.__getitem__, made.every(0.1, 200))
    assert Door(tmp_path, made.DOSE, dirty).check().status != 0
    fill = {number: call for call, number in numbers.items()}
    becomes(tmp_path / "b", dirty, CLEAN, **fill)


@pytest.mark.parametrize("cell", ["C", "T", "C/G", "C/T/T", "C/A", "wildtype", "rs12/rs13"])
@pytest.mark.parametrize("share", [0.005, 1.0])
def test_what_is_no_call_of_the_study_is_never_read(
    tmp_path: Path, cell: str, share: float
) -> None:
    at = made.every(share, 200)
    dirty = CLEAN.edit("VKORC1", lambda _: cell, at)
    answer = Door(tmp_path, made.DOSE, dirty).check()
    assert answer.status != 0, answer.said
    (tmp_path / "b").mkdir()
    door = Door(tmp_path / "b", made.DOSE, dirty)
    last = door.follow(fill={cell: ""})
    assert last.status == 0, last.said
    missing = Door(tmp_path, made.DOSE, CLEAN.edit("VKORC1", lambda _: "", at), "missing.csv")
    assert_same(door.values(), missing.values())


@pytest.mark.parametrize("number", ["0", "1", "2"])
def test_copies_as_a_number_are_read_or_asked_for(tmp_path: Path, number: str) -> None:
    at = made.every(0.3, 200)
    call = {"0": "C/C", "1": "C/T", "2": "T/T"}[number]
    dirty = CLEAN.edit("VKORC1", lambda _: number, at)
    wanted = CLEAN.edit("VKORC1", lambda _: call, at)
    becomes(tmp_path, dirty, wanted, **{number: call})


STARS = [
    ("*1A/*2", "*1/*2"), ("*1.001/*2.002", "*1/*2"), ("*1/*2A", "*1/*2"), ("*2|*3", "*2/*3"),
    ("CYP2C9*1/CYP2C9*2", "*1/*2"), ("CYP2C9*1/*2", "*1/*2"), ("1/2", "*1/*2"), ("*1*2", "*1/*2"),
    ("*2/*1", "*1/*2"), ("*1/*2x1", "*1/*2"), ("*1;*2", "*1/*2"), ("*1 / *2", "*1/*2"),
    ("＊1/＊2", "*1/*2"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "call"), STARS)
@pytest.mark.parametrize("share", [0.005, 1.0])
def test_star_alleles_in_any_notation(tmp_path: Path, cell: str, call: str, share: float) -> None:
    at = made.every(share, 200)
    dirty = CLEAN.edit("CYP2C9", lambda _: cell, at)
    wanted = CLEAN.edit("CYP2C9", lambda _: call, at)
    becomes(tmp_path, dirty, wanted, **{cell: call})


@pytest.mark.parametrize(
    "cell", ["*4/*5", "*1/*2 or *1/*3", "*1/*2;*1/*3", "*2", "*1/*2/*3", "*2x2/*1", "*1/*2+*3"]
)
@pytest.mark.parametrize("share", [0.005, 1.0])
def test_what_is_no_diplotype_of_the_study_is_never_read(
    tmp_path: Path, cell: str, share: float
) -> None:
    dirty = CLEAN.edit("CYP2C9", lambda _: cell, made.every(share, 200))
    door = Door(tmp_path, made.DOSE, dirty)
    answer = door.check()
    assert answer.status != 0, answer.said
    assert door.follow(fill={cell: "*1/*2"}).status == 0


def test_hla_alleles_can_be_declared_or_it_is_told_how(tmp_path: Path) -> None:
    study = made.DOSE.replace('alleles = ["*2", "*3"]', 'alleles = ["*57:01", "*15:02"]')
    door = Door(tmp_path, study, CLEAN)
    answer = door.type("study", "check", door.study)
    assert answer.status == 0 or "hla" in answer.said.lower(), answer.said
