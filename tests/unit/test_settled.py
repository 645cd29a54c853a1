"""Every rule of a mapping is told with how often it applied, and holds no cell of the table."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.data.check import check_table, report_table
from polyclinic_common.data.mapping import Translated, first_mapping, parse_mapping, translate
from polyclinic_common.errors import DataError
from polyclinic_common.study import Study
from tests.kits.door_studies import (
    _study,
    binary_study,
    binary_table,
    dose_study,
    dose_table,
    number,
)


def done(study: Study, frame: pd.DataFrame, text: str) -> Translated:
    return translate(parse_mapping(text, "map.toml"), frame, study)


def counts(translated: Translated) -> dict[tuple[str, str], int]:
    return {(each.column, each.rule): each.count for each in translated.settled}


def with_cells(**cells: list[str]) -> pd.DataFrame:
    """Return the faultless table with cells put into its first rows."""
    frame = dose_table(60)
    for column, values in cells.items():
        frame.loc[: len(values) - 1, column] = values
    return frame


@pytest.mark.parametrize(
    ("column", "cells", "rules", "told"),
    [
        ("crp", ["1,5", "2,5", "3"], 'decimal = "either"', {"decimal": 2}),
        ("crp", ["<5", ">9", "7"], 'censored = "bound"', {"censored": 2}),
        ("crp", ["<5", ">9", "7"], 'censored = "missing"', {"censored": 2}),
        ("weight", ["81 kg", "70"], 'units = { "kg" = 1.0 }', {"units": 1}),
        ("weight", ["-9", "-9", "80"], 'missing = ["-9"]', {"missing": 2}),
        ("sex", ["M", "F", "M"], 'codes = { "M" = "male", "F" = "female" }', {"codes": 3}),
        (
            "sex",
            ["M", "?!", "k"],
            'codes = { "M" = "male" }\nmissing = ["k"]\nothers = "missing"',
            {"codes": 1, "missing": 1, "others": 1},
        ),
        ("height", ["1.70", "1.80", "900"], "outside_factor = 100", {"outside_factor": 2}),
        (
            "height",
            ["1.70", "900"],
            'outside_factor = 100\noutside = "clamp"',
            {"outside_factor": 1, "outside": 1},
        ),
        ("height", [], 'outside = "missing"', {"outside": 0}),
        ("age", [], "factor = 1.01", {"factor": 60}),
        ("age", [], "as_is = true", {"as_is": 60}),
    ],
)
def test_the_report_shows_every_rule_with_its_count(
    column: str, cells: list[str], rules: str, told: dict[str, int]
) -> None:
    text = f'[columns.{column}]\nsource = "{column}"\n{rules}'
    translated = done(dose_study(), with_cells(**{column: cells}), text)
    assert counts(translated) == {(column, rule): count for rule, count in told.items()}
    report = report_table(dose_study(), translated, parse_mapping(text, "m")).as_dict()
    for each in report["settled"]:
        assert each["words"].startswith(f"{column}: ")
        assert each["words"].endswith(f": {each['count']}.")


def test_thousands_are_counted_apart_from_decimals() -> None:
    study = _study("binary", [number("cells", "1/ul", 0, 10**6)])
    frame = binary_table(60).assign(cells="5")
    frame.loc[:3, "cells"] = ["1.234", "1.234,5", "2,5", "7"]
    text = '[columns.cells]\nsource = "cells"\ndecimal = ","\nthousands = "."'
    translated = done(study, frame, text)
    assert translated.frame["cells"][:4].tolist() == [1234.0, 1234.5, 2.5, 7.0]
    assert counts(translated) == {("cells", "decimal"): 1, ("cells", "thousands"): 2}


def test_rules_about_rows_are_told() -> None:
    frame = pd.concat([binary_table(), binary_table().head(3)], ignore_index=True)
    frame.loc[len(frame)] = ["Total", "", "", ""]
    text = '[patients]\nrows = "last"\nempty = "drop"\nexclude = ["P7", "p8", "p9999"]'
    translated = done(binary_study(), frame, text)
    assert counts(translated) == {
        ("patient", "exclude"): 2,
        ("patient", "empty"): 1,
        ("patient", "rows"): 6,
    }
    words = " ".join(map(str, translated.settled))
    assert "2 of 3 are in the table" in words
    assert "p9999" not in words


# Columns that are absent, or that nothing is taken of


PANEL = {
    **number("genes", "log2", 0, 16),
    "kind": "panel",
    "columns": ["g1", "g2", "g3", "g4"],
}


def panel_table() -> pd.DataFrame:
    return binary_table().assign(g1="3", g2="-9", g3=["-9", "4"] * 100)


def test_a_panel_that_lacks_columns_is_refused_with_the_share_until_somebody_says_so() -> None:
    study = _study("binary", [PANEL])
    text = '[panels.genes]\nmissing = ["-9"]'
    translated = done(study, panel_table(), text)
    (found,) = check_table(study, translated.frame, parse_mapping(text, "m")).deviations
    assert found.what == "1 of 4 columns of the panel are absent (25%)."
    assert (found.section, found.lines) == ('[panels."genes"]', ("absent = true",))
    settled = done(study, panel_table(), f"{text}\nabsent = true")
    rules = parse_mapping(f"{text}\nabsent = true", "m")
    assert check_table(study, settled.frame, rules).usable
    assert counts(settled) == {("genes", "absent columns"): 1, ("genes", "missing"): 300}
    by_column = f"{text}\n[columns.g4]\nabsent = true"
    settled = done(study, panel_table(), by_column)
    assert check_table(study, settled.frame, parse_mapping(by_column, "m")).usable


def test_a_code_of_a_panel_must_stand_in_one_of_its_columns_and_not_in_all() -> None:
    study = _study("binary", [PANEL])
    with pytest.raises(DataError) as caught:
        done(study, panel_table(), '[panels.genes]\nmissing = ["-9", "-7"]')
    (problem,) = caught.value.problems
    assert problem.place == "panels.genes"
    assert "'-7' stands in no cell" in problem.what


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[columns.response]\nabsent = true", "alone may be absent"),
        ("[columns.patient]\nabsent = true", "alone may be absent"),
        ("[columns.hospital]\nabsent = true", "alone may be absent"),
        ("[columns.age]\nabsent = true", "has a column of that name"),
        ('[columns.prior]\nabsent = true\nmissing = ["-9"]', "Nothing else"),
        ("[panels.genes]\nabsent = true", "no such panel"),
        ('[columns.prior]\nabsent = true\nsource = "x"', "no source"),
        ("[columns.prior]\nabsent = false", "absent = true"),
    ],
)
def test_what_is_not_absent_cannot_be_called_absent(text: str, why: str) -> None:
    with pytest.raises(DataError) as caught:
        done(binary_study(), binary_table().drop(columns="prior"), text)
    assert why in str([each.what for each in caught.value.problems])


@pytest.mark.parametrize(
    ("renamed", "lines"),
    [
        ("GEWICHT", ('source = "GEWICHT"',)),
        ("weight_lb", ('source = "weight_lb"', "factor = 0.45359237")),
        ("weigh_in", ('source = "FILL IN"',)),  # similar only: named, and not proposed
        ("x17", ('source = "FILL IN"',)),
    ],
)
def test_a_column_under_another_name_is_named_by_the_cause(
    renamed: str, lines: tuple[str, ...]
) -> None:
    frame = dose_table().rename(columns={"weight": renamed})
    translated = done(dose_study(), frame, "")
    assert translated.unused == (renamed,)
    report = check_table(dose_study(), translated.frame, None, translated.unused)
    (found,) = report.deviations
    assert found.lines == lines
    assert (renamed in found.cause) == (renamed != "x17")
    assert report.unused == (renamed,)


def test_a_feature_is_proposed_as_absent_only_where_no_column_is_left() -> None:
    frame = dose_table().drop(columns="weight")
    translated = done(dose_study(), frame, "")
    report = check_table(dose_study(), translated.frame, None, translated.unused)
    (found,) = report.deviations
    assert found.lines == ("absent = true",)
    drafted = first_mapping(dose_study(), list(frame.columns))
    assert '# [columns."weight"]\n# absent = true' in drafted
    drafted = first_mapping(dose_study(), [*frame.columns, "x17"])
    assert '# [columns."weight"]\n# source = "FILL IN"' in drafted


@pytest.mark.parametrize(
    ("header", "column", "words"),
    [
        ("Alter (Jahre)", "age", "but for what stands in brackets"),
        ("Gewicht (lb)", "weight", "lb to kg"),
        ("Gewicht (mmHg)", "weight", ""),
    ],
)
def test_what_stands_in_brackets_behind_a_name_hides_it_only_if_it_is_another_unit(
    header: str, column: str, words: str
) -> None:
    drafted = first_mapping(dose_study(), [header])
    assert (f"# source = {json.dumps(header)}" in drafted) == bool(words)
    assert words in drafted


def test_columns_that_nothing_is_taken_of_are_listed_and_refuse_nothing() -> None:
    frame = binary_table().assign(note="private", ward="7")
    translated = done(binary_study(), frame, "")
    report = report_table(binary_study(), translated, parse_mapping("", "m"))
    assert report.usable
    assert report.unused == ("note", "ward")
    assert "private" not in str(report.as_dict())


def test_needed_columns_are_refused_with_the_likeliest_source_and_never_called_absent() -> None:
    frame = binary_table().rename(columns={"patient": "MRN", "response": "answer"})
    translated = done(binary_study(), frame, "")
    report = check_table(binary_study(), translated.frame, None, translated.unused)
    found = {each.place: each for each in report.deviations}
    assert found["patient"].lines == ('source = "MRN"',)
    assert found["response"].lines == ('source = "FILL IN"',)
    assert "absent = true" not in str([each.otherwise for each in report.deviations])


# Codes that lead nowhere


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ('{ "M" = "FILL IN" }', "still says FILL IN"),
        ('{ "M" = "man" }', "'man', which is no word of the study"),
    ],
)
def test_a_code_whose_meaning_the_study_does_not_know_is_refused_with_its_words(
    codes: str, why: str
) -> None:
    frame = with_cells(sex=["M"])
    with pytest.raises(DataError) as caught:
        done(dose_study(), frame, f'[columns.sex]\nsource = "sex"\ncodes = {codes}')
    (problem,) = caught.value.problems
    assert why in problem.what
    assert "female, male" in problem.remedy


# Several rows of a patient


def visits(order: list[int] | None = None) -> pd.DataFrame:
    """Return three visits of one patient behind a faultless table of others."""
    mine = pd.DataFrame(
        {
            "patient": ["x1", "X1 ", "x1"],
            "age": ["50", "", "56"],
            "prior": ["", "yes", "no"],
            "response": ["yes", "yes", ""],
        }
    )
    return pd.concat([binary_table(50), mine.iloc[order or [0, 1, 2]]], ignore_index=True)


@pytest.mark.parametrize(
    ("rule", "order", "row"),
    [
        ("first", [0, 1, 2], ["50", "", "yes"]),
        ("first", [1, 0, 2], ["", "yes", "yes"]),
        ("last", [0, 1, 2], ["56", "no", ""]),
        ("last", [2, 1, 0], ["50", "", "yes"]),
        ("mean", [0, 1, 2], [53.0, None, "yes"]),
        ("mean", [2, 0, 1], [53.0, None, "yes"]),
    ],
)
def test_a_declared_rule_makes_one_row_of_several(
    rule: str, order: list[int], row: list[Any]
) -> None:
    """First and last: that row as it stands. Mean: of numbers; a word only where all agree."""
    translated = done(binary_study(), visits(order), f'[patients]\nrows = "{rule}"')
    mine = translated.frame[translated.frame["patient"].str.lower().str.strip() == "x1"]
    assert len(translated.frame) == 51
    assert mine[["age", "prior", "response"]].values.tolist() == [row]
    assert counts(translated)["patient", "rows"] == 3
    assert counts(translated).get(("patient", "differ"), 0) == (1 if rule == "mean" else 0)


def test_several_rows_are_refused_without_a_rule() -> None:
    report = check_table(binary_study(), visits())
    (found,) = report.deviations
    assert "3 rows share" in found.what
    assert found.lines == ('rows = "first"',)


@pytest.mark.parametrize(("column", "cell"), [("age", "old"), ("age", "99"), ("prior", "maybe")])
def test_what_is_not_understood_is_not_averaged_away(column: str, cell: str) -> None:
    """80 and 99 have a mean inside the range of 18 to 90; the 99 is seen all the same."""
    frame = visits()
    frame.loc[len(frame) - 2, column] = cell
    text = '[patients]\nrows = "mean"'
    translated = done(binary_study(), frame, text)
    report = check_table(binary_study(), translated.frame, parse_mapping(text, "m"))
    assert [each.place for each in report.deviations] == [column]


def test_the_mean_of_one_row_is_that_row() -> None:
    clean = binary_table()
    translated = done(binary_study(), clean, '[patients]\nrows = "mean"')
    np.testing.assert_array_equal(translated.frame["age"].astype(float), clean["age"].astype(float))
    assert translated.frame["prior"].tolist() == clean["prior"].tolist()
