"""Values: what is not understood refuses the table, and its proposal gives the right value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from polyclinic_common.data.files import read_table
from polyclinic_common.data.mapping import load_mapping, parse_mapping, translate
from polyclinic_common.data.outcome import read_outcome
from polyclinic_common.study import load_study
from tests.kits import door_tables as made
from tests.kits.door import Door, accepted, assert_same, mends, values_of
from tests.kits.typed import typed_here

CLEAN = made.dose_table()


def replaced(table: made.Table, name: str, cell: str, at: list[int]) -> made.Table:
    return table.edit(name, lambda _: cell, at)


def test_codes_for_missing_in_features(tmp_path: Path) -> None:
    dirty, wanted = CLEAN, CLEAN
    codes = (("weight", "-9", 29), ("height", "999", 31), ("age", "-99", 29), ("crp", "-1", 67))
    for seed, (name, code, many) in enumerate(codes):
        at = made.every(many / 200, 200, seed)
        dirty, wanted = replaced(dirty, name, code, at), replaced(wanted, name, "", at)
    door = mends(tmp_path, made.DOSE, dirty, wanted)
    for code in ("-9", "999", "-99", "-1"):
        assert f'missing = ["{code}"]' in str(door.mapping)


@pytest.mark.parametrize("many", [1, 2, 20, 200])
def test_a_code_for_missing_in_the_outcome_is_never_trained_on(tmp_path: Path, many: int) -> None:
    at = made.every(many / 200, 200)
    dirty, wanted = replaced(CLEAN, "dose", "999", at), replaced(CLEAN, "dose", "", at)
    if many == 200:  # nobody is left: no line makes such a table usable
        assert Door(tmp_path, made.DOSE, dirty).check().status != 0
        return
    door = mends(tmp_path, made.DOSE, dirty, wanted)
    assert np.asarray(door.values().mask).sum() == 200 - many


def test_an_outcome_cannot_be_clamped(tmp_path: Path) -> None:
    door = Door(tmp_path, made.DOSE, replaced(CLEAN, "dose", "999", made.every(0.1, 200)))
    door.mapping = '[columns."dose"]\nsource = "dose"\noutside = "clamp"\n'
    assert door.check().status != 0


def test_none_and_blank_are_answers_where_the_mapping_says_so(tmp_path: Path) -> None:
    words = {"never": "None", "former": "Ex", "current": "Yes"}
    dirty = CLEAN.with_column("smoking", [words[cell] for cell in CLEAN.column("smoking")])
    flags = {"0": "", "1": "X"}
    dirty = dirty.with_column("amiodarone", [flags[cell] for cell in CLEAN.column("amiodarone")])
    door = Door(tmp_path, made.DOSE, dirty)
    assert door.check().status != 0
    door.mapping = (
        '[columns."smoking"]\nsource = "smoking"\n'
        'codes = { "None" = "never", "Ex" = "former", "Yes" = "current" }\n'
        '[columns."amiodarone"]\nsource = "amiodarone"\ncodes = { "" = "0", "X" = "1" }\n'
    )
    assert door.check().status == 0, door.check().said
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, CLEAN))


def test_none_and_blank_are_told_with_a_line_to_fill_in(tmp_path: Path) -> None:
    """`Ex` and `Yes` are asked for; accepting what is proposed reaches the clean table."""
    words = {"never": "None", "former": "Ex", "current": "Yes"}
    dirty = CLEAN.with_column("smoking", [words[cell] for cell in CLEAN.column("smoking")])
    fill = {"None": "never", "Ex": "former", "Yes": "current"}
    door = Door(tmp_path, made.DOSE, dirty)
    door.follow(fill=fill)
    assert "None" in door.proposal()[0].said or "None" in str(door.mapping), (
        "the written word None was taken for missing and never shown"
    )


def test_codes_match_numbers_as_they_are_written(tmp_path: Path) -> None:
    words = {"female": "1.0", "male": "2.0"}
    dirty = CLEAN.with_column("sex", [words[cell] for cell in CLEAN.column("sex")])
    for at, keys in enumerate([("1.0", "2.0"), ("1", "2")]):
        folder = tmp_path / str(at)
        folder.mkdir()
        door = Door(folder, made.DOSE, dirty)
        door.mapping = (
            f'[columns."sex"]\nsource = "sex"\n'
            f'codes = {{ "{keys[0]}" = "female", "{keys[1]}" = "male" }}\n'
        )
        assert door.check().status == 0, door.check().said
        assert_same(door.values(), values_of(folder / "wanted", made.DOSE, CLEAN))


def test_a_code_that_stands_in_no_cell_is_an_error(tmp_path: Path) -> None:
    door = Door(tmp_path, made.DOSE, CLEAN)
    door.mapping = '[columns."sex"]\nsource = "sex"\ncodes = { "weiblich" = "female" }\n'
    answer = door.check()
    assert answer.status != 0
    assert "sex" in answer.said


YES_NO = {"yes": "Yes", "no": "No"}
DRESSES = {
    "title": str.title,
    "upper": str.upper,
    "zero-width": lambda cell: cell + "\u200b",
    "upper-zero-width": lambda cell: cell.upper() + "\u200b",
    "byte-order-mark": lambda cell: "\ufeff" + cell,
    "soft-hyphen": lambda cell: cell[0] + "\u00ad" + cell[1:],
    "full-width": made.full_width,
    "no-break-space": lambda cell: "\u00a0" + cell,
    "blanks": lambda cell: f"  {cell}\t",
}


@pytest.mark.parametrize("dress", list(DRESSES))
@pytest.mark.parametrize("share", [0.005, 0.4, 1.0])
def test_words_that_look_the_same_are_never_lost(tmp_path: Path, dress: str, share: float) -> None:
    clean = made.bin_table()
    at = made.every(share, 200)
    dirty = clean.edit("response", DRESSES[dress], at).edit("prior", DRESSES[dress], at)
    door = Door(tmp_path, made.BIN, dirty)
    answer = door.follow()
    assert answer.status == 0, answer.said
    assert_same(door.values(), values_of(tmp_path / "wanted", made.BIN, clean))


def test_words_that_differ_in_case_need_a_declared_code(tmp_path: Path) -> None:
    clean = made.bin_table()
    dirty = clean.edit("response", str.title, made.every(0.4, 200))
    door = mends(tmp_path, made.BIN, dirty, clean)
    assert "codes" in str(door.mapping)


def test_a_unit_of_some_heights_is_seen_in_the_misfits(tmp_path: Path) -> None:
    at = made.every(0.3, 200)
    dirty = CLEAN.edit("height", lambda cell: f"{float(cell) / 100:.3f}", at)
    door = mends(tmp_path, made.DOSE, dirty, CLEAN, exact=False)
    assert "outside_factor = 100" in str(door.mapping)


def test_pounds_among_kilograms_are_named_and_never_half_mended(tmp_path: Path) -> None:
    table = CLEAN.with_column("weight", [f"{50 + i * 0.35:.1f}" for i in range(200)])
    dirty = table.edit("weight", made.pounds, made.every(0.3, 200))
    door = Door(tmp_path, made.DOSE, dirty)
    answer, text = door.proposal()
    assert answer.status != 0
    assert "outside_factor" not in text
    assert "lb" in answer.said or "pound" in answer.said


HEADERS = [
    ("weight", "weight_lb", made.pounds, "0.45359237"),
    ("height", "height (in)", lambda cell: f"{float(cell) / 2.54:.4f}", "2.54"),
    ("height", "height_m", lambda cell: f"{float(cell) / 100:.4f}", "100"),
    ("crp", "crp_mg_dl", lambda cell: f"{float(cell) / 10:.3f}", "10"),
    ("crp", "CRP [mg/dL]", lambda cell: f"{float(cell) / 10:.3f}", "10"),
]


@pytest.mark.parametrize(("name", "header", "change", "factor"), HEADERS)
def test_a_header_that_names_the_unit(
    tmp_path: Path, name: str, header: str, change: object, factor: str
) -> None:
    dirty = CLEAN.edit(name, change, range(200)).renamed(**{name: header})  # type: ignore[arg-type]
    door = Door(tmp_path, made.DOSE, dirty)
    draft = door.draft()
    assert f"factor = {factor}" in draft
    door.mapping = accepted(draft)
    answer = door.follow()
    assert answer.status == 0, answer.said
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, CLEAN), exact=False)


def test_a_source_in_another_unit_than_the_study_is_refused(tmp_path: Path) -> None:
    dirty = CLEAN.edit("weight", made.pounds, range(200)).renamed(weight="weight_lb")
    door = Door(tmp_path, made.DOSE, dirty)
    door.mapping = '[columns."weight"]\nsource = "weight_lb"\n'
    answer = door.follow()
    assert "factor = 0.45359237" in str(door.mapping)
    assert answer.status == 0
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, CLEAN), exact=False)


PRESSURE = made.study(
    "pressure",
    "the response",
    (made.numeric("weight", "kg", 40, 200), made.numeric("systolic", "mmHg", 70, 250)),
    made.BIN_OUTCOME,
)


def test_names_that_only_look_alike_are_never_in_effect(tmp_path: Path) -> None:
    base = made.bin_table().without("age").without("prior")
    for name, low in (("height", 150), ("wt", 50), ("bp_sys", 100), ("diastolic", 71)):
        base = base.with_column(name, [str(low + i % 40) for i in range(200)])
    door = Door(tmp_path, PRESSURE, base)
    draft = door.draft()
    effective = [line for line in draft.splitlines() if not line.startswith("#")]
    for wrong in ("height", "wt", "bp_sys", "diastolic"):
        assert not any(f'"{wrong}"' in line for line in effective)
    assert '"wt"' in draft
    assert '"bp_sys"' in draft


def test_a_proposed_source_is_the_best_one(tmp_path: Path) -> None:
    base = made.bin_table().without("age").without("prior")
    for name, low in (("height", 150), ("wt", 50), ("bp_sys", 100), ("diastolic", 71)):
        base = base.with_column(name, [str(low + i % 40) for i in range(200)])
    door = Door(tmp_path, PRESSURE, base)
    lines = door.draft().splitlines()
    sources = [line.split("  #")[0] for line in lines if line.startswith("# source")]
    assert sources == ['# source = "wt"', '# source = "bp_sys"']


def test_censored_values_and_units_in_cells(tmp_path: Path) -> None:
    low, old, units = (made.every(k / 200, 200, k) for k in (80, 23, 67))
    dirty = replaced(replaced(CLEAN, "crp", "<5", low), "age", "90+", old)
    dirty = dirty.edit("weight", lambda cell: f"{cell} kg", units)
    wanted = replaced(replaced(CLEAN, "crp", "5", low), "age", "90", old)
    mends(tmp_path, made.DOSE, dirty, wanted)


CENSORED = ["<5", "< 5", "<5.0", "≤5", "<=5"]


@pytest.mark.parametrize("cell", CENSORED)
@pytest.mark.parametrize("many", [1, 200])
def test_censored_cells(tmp_path: Path, cell: str, many: int) -> None:
    at = made.every(many / 200, 200)
    mends(tmp_path, made.DOSE, replaced(CLEAN, "crp", cell, at), replaced(CLEAN, "crp", "5", at))


UNITS = [
    ("weight", lambda cell: f"{cell}kg", CLEAN),
    ("weight", lambda cell: f"{cell} Kg", CLEAN),
    ("weight", lambda cell: f"{made.pounds(cell)} lb", CLEAN),
    ("weight", lambda cell: f"{made.pounds(cell)} lbs", CLEAN),
    ("height", lambda cell: f"{float(cell) / 100:.4f} m", CLEAN),
    ("crp", lambda cell: f"{cell} mg/l", CLEAN),
    ("age", lambda cell: f"{cell} y", CLEAN),
    ("age", lambda cell: f"{cell} years", CLEAN),
]


@pytest.mark.parametrize(("name", "change", "wanted"), UNITS)
@pytest.mark.parametrize("share", [0.005, 0.3, 1.0])
def test_units_in_cells(
    tmp_path: Path, name: str, change: object, wanted: made.Table, share: float
) -> None:
    dirty = CLEAN.edit(name, change, made.every(share, 200))  # type: ignore[arg-type]
    mends(tmp_path, made.DOSE, dirty, wanted, exact=False)


def test_percent_signs(tmp_path: Path) -> None:
    study = made.DOSE.replace('unit = "mg/L"\nrange = [0, 200]', 'unit = "%"\nrange = [0, 100]')
    for share in (0.005, 0.5, 1.0):
        folder = tmp_path / str(share)
        folder.mkdir()
        dirty = CLEAN.edit("crp", lambda cell: f"{cell} %", made.every(share, 200))
        door = Door(folder, study, dirty)
        answer = door.follow()
        assert answer.status == 0, answer.said
        assert_same(door.values(), values_of(folder / "wanted", study, CLEAN))


@pytest.mark.parametrize("rows", [9, 200])
def test_height_for_weight_and_weight_for_height_is_mended(tmp_path: Path, rows: int) -> None:
    clean = made.dose_table(rows)
    dirty = clean.with_column("height", clean.column("weight"))
    dirty = dirty.with_column("weight", clean.column("height"))
    door = Door(tmp_path, made.DOSE, dirty)
    answer, _ = door.proposal()
    assert answer.status != 0
    assert "swap" in answer.said or "exchang" in answer.said, answer.said
    answer = door.follow()
    assert answer.status == 0
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, clean))


def test_the_same_patients_are_known_to_training_and_to_scoring(tmp_path: Path) -> None:
    """One function: whoever has mask 1 is known, whoever is known has mask 1."""
    dirty = CLEAN
    for seed, cell in enumerate(["", "999", "-1", "x", "NA", "<5", "inf", "nan", "1e9", "105.1"]):
        dirty = replaced(dirty, "dose", cell, made.every(0.03, 200, seed))
    door = Door(tmp_path, made.DOSE, dirty)
    door.follow(4, fill={"x": ""})
    study, mapping = load_study(door.study), parse_mapping(door.mapping or "", "m")
    frame = translate(mapping, read_table(door.table, mapping.table), study).frame
    known = np.asarray(read_outcome(study.outcome, frame).known)
    assert (known == (door.values().mask[:, 0] == 1)).all()
    wanted = [7 <= float(c) <= 105 if _number(c) else c == "<5" for c in dirty.column("dose")]
    may_be = [c == "<5" for c in dirty.column("dose")]
    off = [i for i in range(200) if known[i] != wanted[i] and not may_be[i]]
    assert off == []


def _number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def test_a_column_under_another_name_is_never_missing_in_silence(tmp_path: Path) -> None:
    dirty = CLEAN.edit("weight", made.pounds, range(200)).renamed(weight="weight_lb")
    door = Door(tmp_path, made.DOSE, dirty)
    answer, text = door.proposal()
    assert answer.status != 0, "the weights of all patients are missing, and the table is usable"
    assert "weight_lb" in text


def test_a_column_absent_is_told(tmp_path: Path) -> None:
    answer = Door(tmp_path, made.DOSE, CLEAN.without("crp")).check()
    assert "crp" in answer.said
    assert "absent" in answer.said


def test_a_column_that_nobody_maps_is_told(tmp_path: Path) -> None:
    table = CLEAN.with_column("postcode", ["10115"] * 200)
    answer = Door(tmp_path, made.DOSE, table).check()
    assert "postcode" in answer.said


def test_a_mapping_with_a_mark_of_windows_notepad_is_read(tmp_path: Path) -> None:
    place = tmp_path / "m.toml"
    place.write_bytes(b"\xef\xbb\xbf" + b'[columns."age"]\r\nsource = "age"\r\n')
    assert load_mapping(place).columns["age"].source == "age"


def test_a_study_that_is_missing_a_value_is_checked_by_command(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(made.DOSE, encoding="utf-8")
    assert typed_here("study", "check", tmp_path / "s.toml").status == 0
