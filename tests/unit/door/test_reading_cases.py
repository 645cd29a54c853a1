"""Files as hospitals write them: read as stated, proposed where not stated, never half."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from tests.kits import door_tables as made
from tests.kits.door import Door, assert_same, mends, values_of

CLEAN = made.dose_table()


def silent(folder: Path, data: str | bytes, name: str = "t.csv") -> None:
    """See that a file is usable as it is, with the values of the clean table."""
    door = Door(folder, made.DOSE, data, name)
    answer = door.check()
    assert answer.status == 0, answer.said
    assert_same(door.values(), values_of(folder / "wanted", made.DOSE, CLEAN))


def with_commas(separator: str) -> str:
    table = CLEAN
    for name in ("height", "weight", "crp", "dose"):
        table = table.edit(name, made.decimal_comma, range(len(table)))
    return table.text(separator)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas_between_other_separators(tmp_path: Path, separator: str) -> None:
    mends(tmp_path, made.DOSE, with_commas(separator), CLEAN)


def test_the_answer_to_semicolons_says_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    answer = Door(tmp_path, made.DOSE, with_commas(";")).check()
    assert "semicolon" in answer.said
    assert 'decimal = ","' in answer.said


def test_decimal_commas_in_part_of_a_column(tmp_path: Path) -> None:
    table, chosen = CLEAN, made.every(0.4, 200)
    for name in ("crp", "dose"):
        cells = [
            cell if i in chosen else str(max(8, round(float(cell))))
            for i, cell in enumerate(table.column(name))
        ]
        table = table.with_column(name, cells)
    wanted = table
    for name in ("crp", "dose"):
        table = table.edit(name, made.decimal_comma, chosen)
    mends(tmp_path, made.DOSE, table.text(quote=True), wanted)


def test_commas_and_points_in_one_column(tmp_path: Path) -> None:
    table = CLEAN.edit("crp", made.decimal_comma, made.every(0.4, 200))
    mends(tmp_path, made.DOSE, table, CLEAN)


def test_the_windows_code_page_is_found_and_its_line_named(tmp_path: Path) -> None:
    table = CLEAN.edit("sex", lambda _: "männlich", [150])
    wanted = CLEAN.edit("sex", lambda _: "male", [150])
    data = table.text().encode("cp1252")
    answer = Door(tmp_path, made.DOSE, data).check()
    assert answer.status != 0
    assert "152" in answer.said
    (tmp_path / "b").mkdir()
    mends(tmp_path / "b", made.DOSE, data, wanted, fill={"männlich": "male"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    silent(tmp_path, CLEAN.text().encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_mended_or_refused(tmp_path: Path, encoding: str) -> None:
    mends(tmp_path, made.DOSE, CLEAN.text().encode(encoding), CLEAN)


def test_windows_line_ends_quotes_and_gzip_say_themselves(tmp_path: Path) -> None:
    silent(tmp_path, CLEAN.text(end="\r\n", quote=True))
    (tmp_path / "gz").mkdir()
    silent(tmp_path / "gz", gzip.compress(CLEAN.text().encode()), "t.csv.gz")


def test_a_line_that_names_the_separator_is_no_header(tmp_path: Path) -> None:
    silent(tmp_path, "sep=,\n" + CLEAN.text())
    (tmp_path / "semi").mkdir()
    silent(tmp_path / "semi", "sep=;\r\n" + CLEAN.text(";", "\r\n"))


@pytest.mark.parametrize(
    "above",
    [
        "Extract of 2024-05-01, Department of Cardiology\n",
        "Extract of 2024-05-01\n\n",
        "# made by the registry\n# not to be passed on\n",
        "Extract of 2024-05-01" + "," * 11 + "\n" + "," * 11 + "\n",
        "Department of Cardiology\nExtract of 2024-05-01\nDr. Smith\n",
    ],
    ids=["title", "title-blank", "comments", "padded", "three"],
)
def test_lines_above_the_header(tmp_path: Path, above: str) -> None:
    mends(tmp_path, made.DOSE, above + CLEAN.text(), CLEAN)


@pytest.mark.parametrize(
    "below",
    [
        "(200 rows affected)\n",
        "\n(200 rows affected)\n",
        "Total,200,,,,,,,,,,\n",
        "Total" + "," * 11 + "\n",
        "," * 11 + "\n",
        "Source: registry\nPrinted 2024-05-01\n",
        "Mean,,50,170.0,80.0,45.0,,,,,,55.00\n",
    ],
    ids=["sql", "sql-blank", "total", "total-only", "empty", "two-lines", "mean"],
)
def test_lines_below_the_table_are_no_patients(tmp_path: Path, below: str) -> None:
    door = Door(tmp_path, made.DOSE, CLEAN.text() + below)
    answer = door.follow()
    assert answer.status == 0, answer.said
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, CLEAN))


@pytest.mark.parametrize(("below", "lines"), [("(200 rows affected)\n", 1), ("a\nb\n", 2)])
def test_a_stated_footer_is_no_patient(tmp_path: Path, below: str, lines: int) -> None:
    door = Door(tmp_path, made.DOSE, CLEAN.text() + below)
    assert door.check().status != 0
    door.mapping = f"[table]\nfooter = {lines}\n"
    assert door.check().status == 0
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, CLEAN))


def test_short_rows_are_refused_by_line_number(tmp_path: Path) -> None:
    lines = CLEAN.text().splitlines()
    for i in range(10, 201, 10):
        lines[i] = lines[i].rsplit(",", 3)[0]
    answer = Door(tmp_path, made.DOSE, "\n".join(lines) + "\n").check()
    assert answer.status != 0
    assert "line 11" in answer.said.lower()


@pytest.mark.parametrize("cells", [1, 4, 11])
def test_a_file_that_ends_in_the_middle_of_a_row_is_refused(tmp_path: Path, cells: int) -> None:
    lines = CLEAN.text().splitlines()[:121]
    lines[-1] = ",".join(lines[-1].split(",")[:cells])
    answer = Door(tmp_path, made.DOSE, "\n".join(lines)).check()
    assert answer.status != 0, answer.said
    assert "121" in answer.said


def test_a_file_that_ends_within_quotes_is_refused(tmp_path: Path) -> None:
    text = CLEAN.text(quote=True)
    answer = Door(tmp_path, made.DOSE, text[: text.rindex('"')]).check()
    assert answer.status != 0, answer.said


def test_trailing_separators_change_nothing_or_are_mended(tmp_path: Path) -> None:
    text = CLEAN.text().replace("\n", ",\n")
    door = Door(tmp_path, made.DOSE, text)
    assert door.follow().status == 0
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, CLEAN))


def test_columns_of_one_name_are_named(tmp_path: Path) -> None:
    table = CLEAN.with_column("again", CLEAN.column("age")).renamed(again="age")
    answer = Door(tmp_path, made.DOSE, table).check()
    assert answer.status != 0
    assert "age" in answer.said


def test_a_title_line_of_semicolons_is_mended_with_the_separator(tmp_path: Path) -> None:
    text = "Auszug vom 1.5.2024\n" + with_commas(";")
    mends(tmp_path, made.DOSE, text, CLEAN)


def test_thousands_marks(tmp_path: Path) -> None:
    study = made.DOSE.replace("range = [0, 200]", "range = [0, 20000]")
    grown = [f"{float(cell) * 150:.1f}" for cell in CLEAN.column("crp")]
    wanted = CLEAN.with_column("crp", grown)
    for at, mark in enumerate([",", " ", "\u202f", "\u00a0", "'", "\u2019"]):
        marked = [f"{float(cell):,.1f}".replace(",", mark) for cell in grown]
        (tmp_path / str(at)).mkdir()
        mends(tmp_path / str(at), study, CLEAN.with_column("crp", marked), wanted)


def test_german_thousands_points_and_decimal_commas(tmp_path: Path) -> None:
    study = made.DOSE.replace("range = [0, 200]", "range = [0, 20000]")
    grown = [f"{float(cell) * 150:.1f}" for cell in CLEAN.column("crp")]
    swap = str.maketrans(",.", ".,")
    marked = [f"{float(cell):,.1f}".translate(swap) for cell in grown]
    wanted = CLEAN.with_column("crp", grown)
    mends(tmp_path, study, CLEAN.with_column("crp", marked), wanted)


def test_thousands_points_that_look_like_decimals_are_not_read_in_silence(tmp_path: Path) -> None:
    """1.234 for 1234: where the range tells the difference it must be seen."""
    study = made.DOSE.replace("range = [0, 200]", "range = [1000, 20000]")
    grown = [str(1000 + round(float(cell) * 150)) for cell in CLEAN.column("crp")]
    marked = [f"{int(cell):,}".replace(",", ".") for cell in grown]
    wanted = CLEAN.with_column("crp", grown)
    mends(tmp_path, study, CLEAN.with_column("crp", marked), wanted)


def frame_of(table: made.Table) -> pd.DataFrame:
    frame = pd.DataFrame(list(table.rows), columns=list(table.header))
    for name in ("age", "amiodarone"):
        frame[name] = frame[name].astype(int)
    for name in ("height", "weight", "crp", "dose"):
        frame[name] = frame[name].astype(float)
    return frame


def parquet(folder: Path, frame: pd.DataFrame) -> bytes:
    frame.to_parquet(folder / "made.parquet")
    return (folder / "made.parquet").read_bytes()


def test_parquet_with_numbers_equals_csv(tmp_path: Path) -> None:
    silent(tmp_path, parquet(tmp_path, frame_of(CLEAN)), "t.parquet")


def test_parquet_with_the_id_as_its_index(tmp_path: Path) -> None:
    frame = frame_of(CLEAN)
    silent(tmp_path, parquet(tmp_path, frame.set_index("patient")), "t.parquet")
    (tmp_path / "two").mkdir()
    both = frame.set_index(["patient", "hospital"])
    silent(tmp_path / "two", parquet(tmp_path, both), "t.parquet")


def test_parquet_with_large_whole_numbers_as_ids(tmp_path: Path) -> None:
    big = [2**53 + 2 * i + 1 for i in range(200)]
    frame = frame_of(CLEAN)
    frame["patient"] = big
    door = Door(tmp_path, made.DOSE, parquet(tmp_path, frame), "t.parquet")
    assert door.check().status == 0
    assert door.values().patients == tuple(str(i) for i in big)


def test_parquet_with_two_columns_of_one_name_names_it(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.Table.from_pandas(frame_of(CLEAN))
    pq.write_table(whole.append_column("age", whole["age"]), tmp_path / "made.parquet")
    data = (tmp_path / "made.parquet").read_bytes()
    answer = Door(tmp_path, made.DOSE, data, "t.parquet").check()
    assert answer.status != 0
    assert "age" in answer.said


def test_truth_values_are_the_same_in_every_format(tmp_path: Path) -> None:
    flag = [cell == "1" for cell in CLEAN.column("amiodarone")]
    frame = frame_of(CLEAN).assign(amiodarone=flag)
    for at, yes_no in enumerate([("TRUE", "FALSE"), ("True", "False"), ("true", "false")]):
        (tmp_path / str(at)).mkdir()
        cells = [yes_no[0] if value else yes_no[1] for value in flag]
        silent(tmp_path / str(at), CLEAN.with_column("amiodarone", cells).text())
    (tmp_path / "parquet").mkdir()
    silent(tmp_path / "parquet", parquet(tmp_path, frame), "t.parquet")


def test_a_workbook_is_read_or_its_remedy_told(tmp_path: Path) -> None:
    """Excel: read with the values of the clean table."""
    pytest.importorskip("openpyxl")
    frame_of(CLEAN).to_excel(tmp_path / "made.xlsx", index=False)
    silent(tmp_path, (tmp_path / "made.xlsx").read_bytes(), "t.xlsx")
