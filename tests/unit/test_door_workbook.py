"""A sheet of a workbook is read as people see it, or refused with what to do."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from polyclinic_common.data.cells import translate_numbers
from polyclinic_common.data.csv_file import TableForm
from polyclinic_common.data.files import form_of, read_table
from polyclinic_common.data.mapping import parse_mapping
from polyclinic_common.errors import Code, DataError
from tests.kits.xlsx import CLOCK, DAY, Stored, workbook

HEADER: list[Stored] = ["patient", "age", "crp", "dead", "seen"]
ROWS: list[list[Stored]] = [
    HEADER,
    ["007", 50.0, 0.1 + 0.2, True, (45413, DAY)],
    [9007199254740991.0, 61, None, False, (45413.5, DAY)],
    ["männlich & wohl", -3, 1.5, None, (0.5, CLOCK)],
]
SEEN = [
    ["007", "50", "0.3", "TRUE", "2024-05-01"],
    ["9007199254740991", "61", "", "FALSE", "2024-05-01 12:00:00"],
    ["männlich & wohl", "-3", "1.5", "", "12:00:00"],
]
TITLE: list[list[Stored]] = [["Department of Cardiology"], ["Extract", "2024"], []]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "t.xlsx"
    path.write_bytes(content)
    return path


def refused(folder: Path, content: bytes, form: TableForm | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read_table(written(folder, content), form)
    assert caught.value.code is Code.TABLE_UNREADABLE
    return caught.value


def cells(frame: pd.DataFrame) -> list[list[str]]:
    assert list(frame.columns) == HEADER
    return [list(map(str, row)) for row in frame.itertuples(index=False)]


def test_cells_are_read_as_people_see_them(tmp_path: Path) -> None:
    assert cells(read_table(written(tmp_path, workbook({"A": ROWS})))) == SEEN


@pytest.mark.parametrize(
    ("rule", "text"),
    [('decimal = ","', "1,5"), ('thousands = "."', "1.234"), ("factor = 1.0", "2")],
)
def test_marks_of_text_are_not_looked_for_in_a_number(tmp_path: Path, rule: str, text: str) -> None:
    """A column in which some cells are numbers and others text: 1.234 is not 1234 there."""
    rows: list[list[Stored]] = [["patient", "age"], ["a", 1.234], ["b", 81.5], ["c", text]]
    frame = read_table(written(tmp_path, workbook({"A": rows})))
    mapping = parse_mapping(f'[columns.age]\nsource = "age"\n{rule}', "map.toml")
    values, _ = translate_numbers(frame["age"], mapping.columns["age"], (0.0, 2000.0))
    expected = {"1,5": 1.5, "1.234": 1234.0, "2": 2.0}[text]
    assert values.tolist() == [1.234, 81.5, expected]


def test_blank_rows_and_empty_columns_are_no_part_of_the_table(tmp_path: Path) -> None:
    blank: list[Stored] = [None]
    spaced: list[list[Stored]] = [ROWS[0], blank, *ROWS[1:], blank]
    wide: list[list[Stored]] = [[None, *row, None, ""] for row in spaced]
    assert cells(read_table(written(tmp_path, workbook({"A": wide})))) == SEEN


def test_title_rows_are_refused_proposed_and_left_out_once_stated(tmp_path: Path) -> None:
    content = workbook({"A": [*TITLE, *ROWS]})
    assert "skip = 3" in refused(tmp_path, content).remedy
    form = form_of(tmp_path / "t.xlsx", TableForm())
    assert form == TableForm(skip=3)
    assert cells(read_table(tmp_path / "t.xlsx", form)) == SEEN


def test_the_first_sheet_that_is_shown_is_read_or_the_one_stated(tmp_path: Path) -> None:
    content = workbook({"codes": [["a"], ["b"]], "data": ROWS, "more": [["x"], [1]]}, ["codes"])
    assert cells(read_table(written(tmp_path, content))) == SEEN
    assert list(read_table(tmp_path / "t.xlsx", TableForm(sheet="more")).columns) == ["x"]
    assert "'codes', 'data', 'more'" in refused(tmp_path, content, TableForm(sheet="no")).remedy


@pytest.mark.parametrize(
    ("header", "what"), [(["a", "a "], "'a'"), (["a", None], "no name for column 2")]
)
def test_columns_need_names_of_their_own(tmp_path: Path, header: list[Stored], what: str) -> None:
    assert what in str(refused(tmp_path, workbook({"A": [header, [1, 2]]})))


def test_a_cell_that_shows_an_error_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    error = refused(tmp_path, workbook({"A": [["a", "b"], [1, "#N/A"]]}))
    assert "show an error" in str(error)


def test_what_is_no_readable_workbook_is_refused_with_what_to_do(tmp_path: Path) -> None:
    whole = workbook({"A": ROWS})
    old = b"\xd0\xcf\x11\xe0" + bytes(600)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as parts:
        parts.writestr("t.csv", "a,b\n1,2\n")
    broken = whole.replace(b"PK\x01\x02", b"PK\x09\x09")
    for content, what in (
        (whole[:300], "damaged"),
        (broken, "damaged"),
        (old, "old kind"),
        (old + "EncryptedPackage".encode("utf-16-le"), "password"),
        (packed.getvalue(), "no workbook"),
    ):
        error = refused(tmp_path, content)
        assert what in str(error)
        assert "CSV (UTF-8)" in error.remedy


def test_a_sheet_stated_for_a_file_without_sheets_is_refused(tmp_path: Path) -> None:
    assert "no workbook" in str(refused(tmp_path, b"a,b\n1,2\n", TableForm(sheet="A")))
