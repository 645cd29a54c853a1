"""The check of a hospital's table: what makes it unusable is found, named and never changed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from polyclinic_common.data.check import check_table, refuse_unusable
from polyclinic_common.data.files import read_table
from polyclinic_common.data.mapping import (
    apply_mapping,
    first_mapping,
    guess_sources,
    load_mapping,
    translate,
)
from polyclinic_common.data.report import CheckReport, ColumnCheck
from polyclinic_common.data.rules import Mapping
from polyclinic_common.data.units import conversions_to
from polyclinic_common.errors import Code, DataError
from polyclinic_common.study import Study, parse_study
from polyclinic_common.study.load import TEMPLATE

PATIENTS = 200


def study(*features: dict[str, Any]) -> Study:
    data = tomllib.loads(TEMPLATE.read_text(encoding="utf-8"))
    data["cohort"]["features"] += features
    return parse_study(data, "test")


def number(name: str, unit: str, low: float, high: float) -> dict[str, Any]:
    span = [low, high]
    return {"name": name, "kind": "numeric", "unit": unit, "range": span, "source": "textbook"}


def table(**columns: Any) -> pd.DataFrame:
    """Return a faultless table of the template's study, with `columns` put in."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "patient": [f"p{i}" for i in range(PATIENTS)],
            "age": rng.integers(20, 90, PATIENTS),
            "stage": rng.choice(["I", "II", "III"], PATIENTS),
            "sex": rng.choice(["female", "male"], PATIENTS),
            "arm": rng.choice(["control", "drug X"], PATIENTS),
            "response": rng.choice(["yes", "no"], PATIENTS),
        }
    )
    return frame.assign(**columns)


def column(report: CheckReport, name: str) -> ColumnCheck:
    return next(check for check in report.columns if check.column == name)


def reasons(report: CheckReport) -> dict[str, str]:
    return {problem.place: problem.what for problem in report.problems}


def test_a_faultless_table_is_usable_and_left_as_it_is() -> None:
    frame = table()
    before = frame.copy(deep=True)
    report = refuse_unusable(study(), frame)
    assert report.usable
    assert report.rows == PATIENTS
    assert not report.notes
    assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("name", "unit", "bounds", "typical", "to_found", "found"),
    [
        ("weight", "kg", (30, 150), 90, 1 / 0.45359237, "lb to kg"),
        ("weight", "lb", (66, 330), 150, 0.45359237, "kg to lb"),
        ("height", "cm", (120, 220), 170, 1 / 2.54, "in to cm"),
        ("height", "cm", (120, 220), 170, 1 / 100, "m to cm"),
        ("age at start", "decades", (1, 10), 6, 10, "years to decades"),
        ("age at start", "years", (18, 90), 60, 1 / 10, "decades to years"),
        ("age at start", "Years", (18, 90), 60, 12, "months to years"),
        ("glucose", "mg/dL", (40, 500), 110, 1 / 18.016, "mmol/L to mg/dL"),
        ("glucose", "mmol/l", (2, 28), 6, 18.016, "mg/dL to mmol/L"),
        ("cholesterol", "mmol/L", (2, 12), 5, 38.67, "mg/dL to mmol/L"),
        ("creatinine", "mg/dL", (0.2, 15), 1, 88.42, "umol/L to mg/dL"),
        ("creatinine", "µmol/L", (20, 1300), 90, 1 / 88.42, "mg/dL to umol/L"),
        ("haemoglobin", "g/L", (60, 220), 140, 1 / 10, "g/dL to g/L"),
        ("haemoglobin", "g/dL", (6, 22), 14, 10, "g/L to g/dL"),
    ],
)
def test_a_unit_error_is_refused_with_the_conversion_named(
    name: str, unit: str, bounds: tuple[float, float], typical: float, to_found: float, found: str
) -> None:
    rng = np.random.default_rng(3)
    values = np.clip(rng.normal(typical, 0.1 * typical, PATIENTS), *bounds)
    contract = study(number(name, unit, *bounds))
    assert check_table(contract, table(**{name: values})).usable
    report = check_table(contract, table(**{name: values * to_found}))
    assert found in reasons(report)[name]
    error = column(report, name).unit_error
    assert error is not None
    np.testing.assert_allclose(values * to_found * error.factor + error.offset, values, rtol=1e-6)


def test_fahrenheit_is_recognised_and_the_remedy_can_be_written_in_a_mapping() -> None:
    contract = study(number("temperature", "degC", 34, 42))
    celsius = np.linspace(36, 40, PATIENTS)
    frame = table(temperature=celsius * 9 / 5 + 32)
    error = column(check_table(contract, frame), "temperature").unit_error
    assert error is not None
    entry = {"source": "temperature", "factor": error.factor, "offset": error.offset}
    mapping = Mapping.model_validate({"columns": {"temperature": entry}})
    assert check_table(contract, apply_mapping(mapping, frame, contract)).usable


def test_a_molar_conversion_needs_the_substance() -> None:
    assert not conversions_to("mg/dL", "biomarker")
    assert [c.found for c in conversions_to("mg/dL", "Fasting glucose")] == ["mmol/l"]


def test_few_values_out_of_range_are_no_unit_error() -> None:
    weights = [80.0] * (PATIENTS - 10) + [200.0] * 10
    report = check_table(study(number("weight", "kg", 30, 150)), table(weight=weights))
    assert "10 values are out of range" in reasons(report)["weight"]
    assert column(report, "weight").out_of_range == 10
    assert column(report, "weight").unit_error is None


def test_an_absent_column_is_refused_and_a_feature_until_somebody_says_that_it_is_absent() -> None:
    frame = table().drop(columns=["age", "arm"])
    report = check_table(study(), frame)
    assert set(reasons(report)) == {"age", "arm"}
    assert not column(report, "age").present
    said = Mapping.model_validate({"columns": {key: {"absent": True} for key in ("age", "arm")}})
    done = translate(said, frame, study())
    assert check_table(study(), done.frame, said).usable
    assert [str(each) for each in done.settled] == [
        f"{name}: absent from the table, missing for every patient; rows: {PATIENTS}."
        for name in ("age", "arm")
    ]
    for needed in ("patient", "response"):
        report = check_table(study(), table().drop(columns=needed))
        assert set(reasons(report)) == {needed}
        assert "absent" in reasons(report)[needed]
        assert "absent = true" not in str(report.problems)
        with pytest.raises(DataError, match="does not fit"):
            translate(
                Mapping.model_validate({"columns": {needed: {"absent": True}}}), frame, study()
            )


def test_patients_in_two_rows_are_refused_however_the_number_is_written() -> None:
    ids: list[object] = [*range(PATIENTS - 2), "7.0", " 7 "]
    report = check_table(study(), table(patient=pd.Series(ids, dtype=object)))
    assert report.duplicate_rows == 3
    assert report.duplicate_patients == 1
    assert "3 rows share" in reasons(report)["patient"]


def test_leading_zeros_make_different_patients() -> None:
    ids = ["007", "07", *map(str, range(PATIENTS - 2))]
    assert check_table(study(), table(patient=ids)).usable


def test_rows_without_patient_id_are_refused() -> None:
    ids = ["", "NA", *map(str, range(PATIENTS - 2))]
    report = check_table(study(), table(patient=ids))
    assert report.missing_patient_ids == 2
    assert report.duplicate_rows == 0
    assert "2 rows have no patient id" in reasons(report)["patient"]


def test_unknown_words_are_few_and_short_and_many_are_only_counted() -> None:
    words = ["male"] * 190 + ["x" * 50] * 4 + ["b", "c", "d", "e", "f", "g"]
    check = column(check_table(study(), table(sex=words)), "sex")
    assert check.unknown == 10
    assert check.unknown_distinct == 7
    assert len(check.unknown_words) == 5
    assert check.unknown_words[0] == "x" * 19 + "…"
    assert check.unknown_words[1:] == ("b", "c", "d", "e")
    names = column(check_table(study(), table(sex=[f"n{i}" for i in range(PATIENTS)])), "sex")
    assert names.unknown_words == ()
    assert names.unknown_distinct == PATIENTS


def test_the_reasons_never_quote_what_stands_in_a_cell() -> None:
    frame = table(sex="secret", age="secret", response=["secret", "yes"] * (PATIENTS // 2))
    with pytest.raises(DataError) as caught:
        refuse_unusable(study(), frame)
    assert caught.value.code is Code.DATA_UNUSABLE
    assert "secret" not in str(caught.value.as_dict())


@pytest.mark.parametrize("bad", [1, PATIENTS // 2, PATIENTS])
def test_useless_values_are_refused_at_any_share(bad: int) -> None:
    report = check_table(
        study(),
        table(
            sex=["?!"] * bad + ["male"] * (PATIENTS - bad),
            age=["60,5"] * bad + ["60"] * (PATIENTS - bad),
        ),
    )
    assert f"{bad} are words" in reasons(report)["sex"]
    assert f"{bad} cells cannot be read" in reasons(report)["age"]


def test_no_known_outcome_is_refused_and_a_constant_one_noted() -> None:
    report = check_table(study(), table(response=None))
    assert reasons(report) == {"outcome": "No patient has a known outcome."}
    assert report.without_outcome == PATIENTS
    constant = check_table(study(), table(response="yes"))
    assert constant.usable
    assert constant.notes == ("response is the same for every patient.",)
    some = check_table(study(), table(response=["yes", "no", *[None] * (PATIENTS - 2)]))
    assert some.usable
    assert some.without_outcome == PATIENTS - 2


def test_genotypes_that_laboratories_write_are_understood() -> None:
    snp = {"name": "snp", "kind": "snp", "reference": "G", "effect": "A", "source": "rs9923231"}
    cyp = {"name": "cyp", "kind": "diplotype", "alleles": ["*2", "*3"], "source": "PharmVar"}
    frame = table(snp=["A/G", "AG", "g|a", "T/T"] * 50, cyp=["*1/*3", "3/1", "*2", None] * 50)
    report = check_table(study(snp, cyp), frame)
    assert column(report, "snp").unknown_words == ("T/T",)
    assert column(report, "cyp").unknown_words == ("*2",)
    assert column(report, "cyp").missing_share == 0.25


def test_a_panel_is_checked_as_one() -> None:
    panel = {**number("genes", "log2 TPM", 0, 16), "kind": "panel", "columns": ["g1", "g2", "g3"]}
    frame = table(g1=5.0, g2=["99"] * 10 + ["x"] * 10 + [None] * (PATIENTS - 20))
    check = column(check_table(study(panel), frame), "genes")
    assert (check.columns_absent, check.out_of_range, check.unreadable) == (1, 10, 10)
    assert check.missing_share == pytest.approx(0.45)


@pytest.mark.slow
def test_a_large_table_is_checked_whole() -> None:
    frame = pd.concat([table()] * 500, ignore_index=True)
    frame["patient"] = np.arange(len(frame))
    assert check_table(study(), frame).usable
    frame.loc[len(frame) - 1, "patient"] = 0
    assert not check_table(study(), frame).usable


# Reading files


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("t.csv", None, Code.TABLE_UNREADABLE),
        ("t.csv", b"", Code.TABLE_EMPTY),
        ("t.csv", b"patient,age\n", Code.TABLE_EMPTY),
        ("t.csv", "patient,name\n1,Müller\n".encode("latin-1"), Code.TABLE_ENCODING),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", Code.TABLE_UNREADABLE),
        ("t.csv", b'a,b\n"1,2\n', Code.TABLE_UNREADABLE),
        ("t.csv", b"a,a\n1,2\n", Code.TABLE_UNREADABLE),
        ("t.csv", b"patient;age\n1;50\n", Code.TABLE_UNREADABLE),
        ("t.parquet", b"PAR1 but no more", Code.TABLE_UNREADABLE),
        ("t.parquet", b"", Code.TABLE_UNREADABLE),
    ],
)
def test_a_file_that_is_no_table_gives_a_coded_error(
    tmp_path: Path, name: str, content: bytes | None, code: Code
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert caught.value.code is code
    assert "Müller" not in str(caught.value)


def test_csv_and_parquet_of_the_same_table_give_the_same_report(tmp_path: Path) -> None:
    frame = table(age=[400.0, np.nan, *[50.0] * (PATIENTS - 2)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    reports = [
        check_table(study(), read_table(tmp_path / f"t.{kind}")) for kind in ("csv", "parquet")
    ]
    assert reports[0] == reports[1]


# Mapping


def mapped(text: str, frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    path = folder / "map.toml"
    path.write_text(text, encoding="utf-8")
    return apply_mapping(load_mapping(path), frame, study(number("weight", "kg", 30, 150)))


def test_a_mapping_renames_translates_and_converts(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"PID": ["1", "2", "3"], "LBS": ["220.462262", "heavy", ""], "SEX": ["1", "2.0", "9"]}
    ).assign(age="50", note="private")
    text = """
        [columns.patient]
        source = "PID"
        [columns.weight]
        source = "LBS"
        factor = 0.45359237
        [columns.sex]
        source = "SEX"
        codes = { "1" = "male", "2" = "female" }
    """
    result = mapped(text, frame, tmp_path)
    assert list(result.columns) == ["patient", "age", "sex", "weight"]
    assert result["sex"].tolist() == ["male", "female", "9"]
    assert float(result["weight"][0]) == pytest.approx(100.0)
    check = column(check_table(study(number("weight", "kg", 30, 150)), result), "weight")
    assert (check.values, check.unreadable) == (2, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[columns.wait]\nsource = "PID"', "no such column"),
        ('[columns.patient]\nsource = "pid"', "no column 'pid'"),
        ('[columns.sex]\nsource = "PID"\nfactor = 2.0', "needs a column of numbers"),
        ("[columns.sex]\nfactor = 2.0", "columns.sex.source"),
        ('[columns.sex]\nsource = "PID"\nfaktor = 2.0', "columns.sex.faktor"),
        ('[columns.sex]\nsource = "PID"\nfactor = nan', "finite"),
        ("[columns.sex]\nsource = PID", "not valid TOML"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        mapped(text, pd.DataFrame({"PID": ["1"]}), tmp_path)
    assert caught.value.code is Code.MAPPING_INVALID
    assert found in str(caught.value) + " ".join(map(str, caught.value.problems))


def test_an_absent_mapping_file_is_a_coded_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_mapping(tmp_path / "none.toml")
    assert caught.value.code is Code.MAPPING_INVALID


def test_the_first_mapping_guesses_by_name_and_uses_every_column_once() -> None:
    columns = ["Patient-ID", "AGE_YRS", "Sex", "tumour_stage", "comment"]
    guesses = guess_sources(study(), columns)
    assert guesses["sex"] == "Sex"
    assert guesses["patient"] == "Patient-ID"
    assert guesses["stage"] == "tumour_stage"
    assert len(set(guesses.values())) == len(guesses)


@pytest.mark.parametrize(
    "columns", [["age", "SEX", "Stage"], ['a"ge\n', "sex\x7f", "größe\\", "#"]]
)
def test_the_first_mapping_can_be_loaded_and_states_the_contract(
    tmp_path: Path, columns: list[str]
) -> None:
    text = first_mapping(study(), columns)
    path = tmp_path / "map.toml"
    path.write_text(text, encoding="utf-8")
    frame = pd.DataFrame({name: ["1"] for name in columns})
    apply_mapping(load_mapping(path), frame, study())
    assert "numeric, years, 18 to 90" in text
    assert "categorical: female, male" in text
