"""A file is read in the form that is stated; what does not fit is refused by its line."""

from __future__ import annotations

import gzip
import math
import tomllib
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyclinic_common.data.cells import read_cell
from polyclinic_common.data.check import check_table
from polyclinic_common.data.csv_file import TableForm
from polyclinic_common.data.files import form_of, read_table
from polyclinic_common.data.mapping import load_mapping, parse_mapping, translate
from polyclinic_common.data.propose import propose_form
from polyclinic_common.data.rules import ValueRules
from polyclinic_common.data.values import as_number, as_text
from polyclinic_common.errors import Code, DataError
from tests.kits.door_studies import dose_study, dose_table

ROWS = [["patient", "age", "crp"], *([f"p{row}", str(20 + row), f"{row}.5"] for row in range(30))]
PLAIN = "".join(",".join(cells) + "\n" for cells in ROWS)
CLEAN = pd.DataFrame(ROWS[1:], columns=ROWS[0], dtype=object)


def refused(path: Path, content: str | bytes, form: TableForm | None = None) -> DataError:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_table(path, form)
    return caught.value


@pytest.mark.parametrize(
    ("content", "what", "stated"),
    [
        (PLAIN.replace(",", ";").replace(".", ","), "by semicolons", 'separator = ";"'),
        (PLAIN.replace(",", "\t"), "by tabs", 'separator = "\\t"'),
        (PLAIN.replace(",", "|"), "by bars", 'separator = "|"'),
        ("Extract of 2024-05-01, Department\n" + PLAIN, "1 lines above", "skip = 1"),
        ("Title\nDepartment of Cardiology\n\n" + PLAIN, "3 lines above", "skip = 3"),
        ("Extract,,\n,,\n" + PLAIN, "2 lines above", "skip = 2"),
        ("# made by a program\n# on, a day\n" + PLAIN, "lines of comment", 'comment = "#"'),
    ],
)
def test_another_form_is_refused_proposed_and_read_once_stated(
    tmp_path: Path, content: str, what: str, stated: str
) -> None:
    path = tmp_path / "t.csv"
    error = refused(path, content)
    assert error.code is Code.TABLE_UNREADABLE
    assert what in str(error)
    assert stated in error.remedy
    text = propose_form("", form_of(path, TableForm()))
    assert parse_mapping(text, "m").table == TableForm()
    mapping = parse_mapping(text.replace("\n# ", "\n"), "m")
    frame = read_table(path, mapping.table)
    assert frame.shape == CLEAN.shape
    assert list(frame.columns) == ROWS[0]


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\n" + PLAIN.replace(",", ";"),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        gzip.compress(PLAIN.encode()),
        '"patient","age","crp"\n' + PLAIN.split("\n", 1)[1],
        PLAIN.rstrip("\n"),
        PLAIN + "\n\n",
    ],
    ids=["sep=", "trailing", "crlf", "bom", "utf-16", "gzip", "quoted", "no end", "blank lines"],
)
def test_what_a_file_says_of_itself_is_read(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    pd.testing.assert_frame_equal(read_table(path), CLEAN)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (PLAIN + "(200 rows affected)\n", 32),
        (PLAIN + "p30,50\np31,50,1\n", 32),
        (PLAIN[: PLAIN.rindex(",")], 31),
        (PLAIN + "p30,50,1,2\n", 32),
        (PLAIN + 'p30,50,"1\n', 32),
    ],
    ids=["footer", "short", "cut off", "long", "open quotation"],
)
def test_a_row_that_does_not_fit_is_refused_by_its_line(
    tmp_path: Path, content: str, line: int
) -> None:
    assert f"line {line}" in str(refused(tmp_path / "t.csv", content))


def test_a_stated_footer_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert "footer = 1" in refused(path, PLAIN + "(30 rows affected)\n").remedy
    pd.testing.assert_frame_equal(read_table(path, TableForm(footer=1)), CLEAN)


def test_a_byte_of_another_encoding_is_named_by_line_and_read_once_stated(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    content = (PLAIN + "männlich,50,1\n").encode("cp1252")
    error = refused(path, content)
    assert error.code is Code.TABLE_ENCODING
    assert "line 32" in str(error)
    assert "männlich" not in str(error)
    frame = read_table(path, TableForm(encoding="cp1252"))
    assert frame["patient"].iloc[-1] == "männlich"


def test_a_name_that_stands_twice_is_named_in_every_format(tmp_path: Path) -> None:
    assert "'age'" in str(refused(tmp_path / "t.csv", "age,age \n1,2\n"))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["age", "age"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "t.parquet")
    assert "'age'" in str(caught.value)


def test_a_named_index_level_of_parquet_is_a_column(tmp_path: Path) -> None:
    CLEAN.set_index("patient").to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["patient"].tolist() == CLEAN["patient"].tolist()


def test_a_workbook_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert "Save the sheet as CSV" in refused(tmp_path / "t.xlsx", b"PK\x03\x04rest").remedy


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_mapping_is_read_however_an_editor_saved_it(
    tmp_path: Path, encoding: str, end: str
) -> None:
    path = tmp_path / "map.toml"
    path.write_bytes(f"[table]{end}skip = 2{end}".encode(encoding))
    assert load_mapping(path).table.skip == 2


def test_a_letter_that_no_eye_sees_is_named_in_a_mapping() -> None:
    with pytest.raises(DataError) as caught:
        parse_mapping("[table]\nskip\u00a0= 2\n", "m")
    assert "Line 2, column 5" in caught.value.remedy


def test_decimal_marks_of_the_file_hold_for_every_column_of_numbers(tmp_path: Path) -> None:
    clean = dose_table()
    german = clean.copy()
    for column in ("height", "weight", "crp", "dose"):
        german[column] = german[column].str.replace(".", ",", regex=False)
    german.to_csv(tmp_path / "t.csv", sep=";", index=False)
    mapping = parse_mapping('[table]\nseparator = ";"\ndecimal = ","', "m")
    frame = read_table(tmp_path / "t.csv", mapping.table)
    done = translate(mapping, frame, dose_study())
    assert check_table(dose_study(), done.frame, mapping).usable
    assert done.frame["crp"].astype(float).tolist() == clean["crp"].astype(float).tolist()


@pytest.mark.parametrize(
    ("cell", "rules", "number"),
    [
        ("1.234,5", 'decimal = ","\nthousands = "."', 1234.5),
        ("1.000", 'decimal = ","\nthousands = "."', 1000.0),
        ("1,234.5", 'thousands = ","', 1234.5),
        ("1 234", 'thousands = " "', 1234.0),
        ("1\u202f234,5", 'thousands = " "\ndecimal = ","', 1234.5),
        ("15,6", 'decimal = ","', 15.6),
        ("15.6", 'decimal = "either"', 15.6),
        ("15.6", 'decimal = ","', None),
        ("<5", 'censored = "bound"', 5.0),
        (">=5", 'censored = "bound"', 5.0),
        ("90+", 'censored = "bound"', 90.0),
        ("81.2 kg", 'units = { "kg" = 1.0 }', 81.2),
        ("100 lb", 'units = { "kg" = 1.0, "lb" = 0.5 }', 50.0),
        ("<5", "", None),
        ("1e5", "", 1e5),
    ],
)
def test_numbers_are_read_by_the_rules_that_somebody_wrote(
    cell: str, rules: str, number: float | None
) -> None:
    read = read_cell(cell, ValueRules.model_validate(tomllib.loads(rules)))
    assert read is not None
    assert read == number if number is not None else math.isnan(read)


def test_lines_above_are_counted_alike_by_message_proposal_and_reader(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    content = "sep=,\r\nDepartment,,\r\nExtract,,\r\n" + PLAIN
    assert "skip = 2" in refused(path, content).remedy
    assert form_of(path, TableForm()) == TableForm(skip=2)
    pd.testing.assert_frame_equal(read_table(path, TableForm(skip=2)), CLEAN)
    error = refused(path, content + "p30,50\np31,1,1\n", TableForm(skip=2))
    assert "line 35" in str(error)


@pytest.mark.parametrize(
    ("below", "lines"),
    [
        ("(30 rows affected)\n", 1),
        ("\n(30 rows affected)\n\n", 3),
        ("Source: registry\nPrinted, today\n", 2),
        ("p30,5", 0),
        ("p30,5\np31,50,1\n", 0),
        ("p30,5\np31,50,1\nTotal\n", 0),
        ('p30,50,"1\n', 0),
        ("p30,50,1,2\n" * 21, 0),
    ],
    ids=["sql", "blank", "two", "cut off", "within", "within too", "open quotation", "many"],
)
def test_a_footer_is_proposed_where_all_rows_above_it_fit(
    tmp_path: Path, below: str, lines: int
) -> None:
    path = tmp_path / "t.csv"
    refused(path, PLAIN + below)
    form = form_of(path, TableForm())
    assert form == TableForm(footer=lines)
    if lines:
        pd.testing.assert_frame_equal(read_table(path, form), CLEAN)


@pytest.mark.parametrize("name", ["patient", "患者番号"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named_and_read_once_stated(
    tmp_path: Path, encoding: str, name: str
) -> None:
    path = tmp_path / "t.csv"
    content = PLAIN.replace("patient", name).encode(encoding)
    error = refused(path, content)
    assert error.code is Code.TABLE_ENCODING
    assert f'encoding = "{encoding}"' in error.remedy
    form = form_of(path, TableForm())
    assert form.encoding == encoding
    assert read_table(path, form)["age"].tolist() == CLEAN["age"].tolist()


def test_a_byte_of_zeros_is_refused_by_its_line(tmp_path: Path) -> None:
    assert "line 31" in str(refused(tmp_path / "t.csv", PLAIN[:-3] + "\0\n"))


def test_bytes_of_no_encoding_that_can_be_stated_get_no_such_advice(tmp_path: Path) -> None:
    error = refused(tmp_path / "t.csv", PLAIN.encode() + b"\x81\xff\n")
    assert error.code is Code.TABLE_ENCODING
    assert "[table]" not in error.remedy
    with pytest.raises(DataError):
        form_of(tmp_path / "t.csv", TableForm())


@pytest.mark.parametrize("name", ["t.csv", "t.xlsx", "t.parquet"])
def test_a_file_that_cannot_be_opened_is_refused_by_its_reason(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name

    def said() -> str:
        with pytest.raises(DataError) as caught:
            read_table(path)
        assert caught.value.code is Code.TABLE_UNREADABLE
        return str(caught.value)

    assert "does not exist" in said()
    path.mkdir()
    assert "is a folder" in said()
    path.rmdir()
    path.write_text(PLAIN)

    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", forbid)  # the superuser, as whom tests may run, reads all
    assert "may not be read" in said()


def test_a_damaged_packed_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(PLAIN.encode())
    wrong_sum = whole[:-8] + bytes(8)
    wrong_inside = whole[:40] + bytes(20) + whole[60:]
    for content in (whole[:-20], whole[:8], wrong_sum, wrong_inside):
        assert "damaged or cut off" in str(refused(tmp_path / "t.csv.gz", content))


def test_an_unnamed_index_of_parquet_is_no_column(tmp_path: Path) -> None:
    frame = CLEAN.iloc[::2]
    frame.to_parquet(tmp_path / "t.parquet", index=True)
    assert "__index_level_0__" in pq.read_schema(tmp_path / "t.parquet").names
    assert list(read_table(tmp_path / "t.parquet").columns) == ROWS[0]


def test_days_and_decimals_of_parquet_are_words_as_people_write_them(tmp_path: Path) -> None:
    when = datetime(2024, 5, 1, 12, 30)
    columns = {
        "day": pa.array([when.date(), None], pa.date32()),
        "time": pa.array([when, datetime(2024, 5, 1)], pa.timestamp("us")),
        "dose": pa.array([Decimal("1.50"), Decimal("0.00000001")], pa.decimal128(20, 8)),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    frame = read_table(tmp_path / "t.parquet")
    assert as_text(frame["day"]).tolist() == ["2024-05-01", None]
    assert as_text(frame["time"]).tolist() == ["2024-05-01 12:30:00", "2024-05-01"]
    assert as_text(frame["dose"]).tolist() == ["1.5", "0.00000001"]
    assert as_number(frame["dose"]).tolist() == [1.5, 1e-8]
