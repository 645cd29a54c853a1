"""What stands in one patient's cell changes no other patient's: the file is read cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyclinic_common.data.check import check_table
from polyclinic_common.data.files import read_table
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.values import as_number, as_text
from tests.kits.small import small_study, small_table

LONG = 900_000_000_000_207_008  # a code of SNOMED CT's length
COLUMNS: dict[str, tuple[list[Any], Callable[[], pa.DataType]]] = {
    "int64": ([LONG, 2], pa.int64),
    "uint64": ([2**64 - 1, 2], pa.uint64),
    "int8": ([1, 2], pa.int8),
    "float": ([0.1, 2.0], pa.float64),
    "bool": ([True, False], pa.bool_),
    "text": (["007", "1.0"], pa.string),
    "dictionary of text": (["a", "b"], lambda: pa.dictionary(pa.int8(), pa.string())),
    "dictionary of whole numbers": ([LONG, 2], lambda: pa.dictionary(pa.int8(), pa.int64())),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_an_empty_cell_of_one_patient_changes_no_other_cell(name: str, tmp_path: Path) -> None:
    """By default a column of whole numbers becomes floats, which write long codes otherwise."""
    values, kind = COLUMNS[name]
    found = []
    for cells in (values, [*values, None], [None, *values]):
        table = pa.table({"column": pa.array(cells, kind())})
        pq.write_table(table, tmp_path / "table.parquet")
        column = read_table(tmp_path / "table.parquet")["column"]
        rows = [row for row, cell in enumerate(cells) if cell is not None]
        words, numbers = as_text(column), as_number(column)
        found.append([(words.iloc[row], float(numbers[row])) for row in rows])
    assert str(found[0]) == str(found[1]) == str(found[2])
    if LONG in values:
        assert found[0][0][0] == str(LONG)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P8", "p8"),
        ("A9", "A\u200b9"),
        ("A10", "\uff2110"),
        ("12", " 1\u00a02\u2060"),
        ("'123", "123"),
        ("123", "\u0661\u0662\u0663"),
        ("a1", "a\ufe0f1"),
    ],
)
def test_one_patient_in_two_spellings_is_refused(one: str, other: str) -> None:
    """Twice in a cohort a patient would count twice under a promise for one."""
    assert same_number(one) == same_number(other)
    table = small_table(30, 1)
    table["patient"] = [one, other, *table["patient"].iloc[2:]]
    report = check_table(small_study(), table)
    assert not report.usable
    assert (report.duplicate_rows, report.duplicate_patients) == (2, 1)


def test_numbers_that_people_tell_apart_stay_apart() -> None:
    numbers = ["1-23", "12-3", "A1", "A-1", "0", "10", "1.0", "ä", "a"]
    assert len({same_number(each) for each in numbers}) == len(numbers)
    table = small_table(len(numbers), 1).assign(patient=numbers)
    assert check_table(small_study(), pd.DataFrame(table)).duplicate_rows == 0
