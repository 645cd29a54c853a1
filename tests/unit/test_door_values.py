"""What a table holds is understood, or a person writes down what it means: nothing passes by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_common.data.check import check_table
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.mapping import parse_mapping, translate
from polyclinic_common.data.rules import Mapping
from polyclinic_common.errors import DataError
from polyclinic_common.evaluation.observed import observe
from tests.kits.door_studies import (
    binary_study,
    binary_table,
    dose_study,
    dose_table,
    survival_study,
    survival_table,
)
from tests.kits.translated import accepted, assert_same_as_clean, checked, put, some

SHARES = (0.005, 0.3, 0.9)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("rows", [9, 200])
@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("weight", "-9"),
        ("height", "999"),
        ("age", "-99"),
        ("crp", "-1"),
        ("dose", "999"),
        ("dose", "stopped"),
        ("crp", "not done"),
        ("sex", "?!"),
        ("smoking", "unknown"),
        ("vkorc1", "./."),
        ("cyp2c9", "*1/*99"),
    ],
)
def test_one_strange_cell_refuses_like_many_and_its_line_makes_it_missing(
    rows: int, share: float, column: str, cell: str
) -> None:
    clean = dose_table(rows)
    chosen = some(clean, share)
    spoilt = put(clean, column, cell, chosen)
    report = checked(dose_study(), spoilt)
    assert not report.usable
    assert cell not in str([str(each) for each in report.problems])
    if column in {"sex", "smoking", "cyp2c9"} and share > 0.5 and cell != "unknown":
        return  # the column is coded in another way: a person fills in the codes
    missing = clean.copy()
    missing[column] = missing[column].mask(chosen)
    assert_same_as_clean(dose_study(), spoilt, missing)


def as_comma(values: pd.Series) -> pd.Series:
    return values.str.replace(".", ",", regex=False)


def as_metres(values: pd.Series) -> pd.Series:
    return (values.astype(float) / 100).map(lambda value: f"{value:.2f}")


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("crp", as_comma),
        ("dose", as_comma),
        ("height", as_metres),
        ("weight", lambda v: v + " kg"),
        ("age", lambda v: v + "+"),
        ("crp", lambda v: "<" + v),
        ("smoking", lambda v: v.str.upper()),
        ("smoking", lambda v: v + "\u200b"),
        ("sex", lambda v: v.map({"female": "weiblich", "male": "männlich"})),
        ("amiodarone", lambda v: v.map({"0": "nein", "1": "ja"})),
        ("vkorc1", lambda v: v.str.replace("/", ";")),
        ("vkorc1", lambda v: v.map(lambda w: f"rs9923231{w[0]}/rs9923231{w[2]}")),
        ("cyp2c9", lambda v: v.str.replace("*1", "*1A")),
        ("cyp2c9", lambda v: v.str.replace("*2", "*2.001")),
    ],
)
def test_another_spelling_refuses_and_its_line_gives_the_clean_result(
    share: float, column: str, change: Callable[[pd.Series], pd.Series]
) -> None:
    clean = dose_table()
    spoilt = put(clean, column, change(clean[column]), some(clean, share))
    if spoilt[column].equals(clean[column]):
        return  # the first rows hold no allele that is written otherwise
    assert_same_as_clean(dose_study(), spoilt, clean)


def test_pounds_that_may_be_kilograms_are_never_converted_by_guess() -> None:
    clean = dose_table()
    pounds = (clean["weight"].astype(float) / 0.45359237).round(1).astype(str)
    spoilt = put(clean, "weight", pounds, some(clean, 0.3))
    (found,) = checked(dose_study(), spoilt).deviations
    assert found.lines == ('outside = "missing"',)
    assert "lb to kg" in found.cause
    assert "inside the range may need it too" in found.cause


def test_none_and_blank_are_answers_where_a_person_says_so() -> None:
    clean = dose_table()
    spoilt = clean.assign(
        smoking=clean["smoking"].map({"never": "None", "former": "Ex", "current": "Yes"}),
        amiodarone=clean["amiodarone"].map({"0": " ", "1": "X"}),
        sex=clean["sex"].map({"female": 1.0, "male": 2.0}),
    )
    text = """
        [columns.smoking]
        source = "smoking"
        codes = { "None" = "never", "Ex" = "former", "Yes" = "current" }
        [columns.amiodarone]
        source = "amiodarone"
        codes = { "" = "0", "X" = "1" }
        [columns.sex]
        source = "sex"
        codes = { "1.0" = "female", "2.0" = "male" }
    """
    done = translate(parse_mapping(text, "m"), spoilt, dose_study())
    assert check_table(dose_study(), done.frame).usable
    for column in ("smoking", "amiodarone", "sex"):
        assert done.frame[column].tolist() == clean[column].tolist()
    assert {(each.column, each.count) for each in done.settled} == {
        ("smoking", 200),
        ("amiodarone", 200),
        ("sex", 200),
    }


@pytest.mark.parametrize("rule", ['codes = { "9" = "" }', 'missing = ["9"]'])
def test_a_code_that_stands_in_no_cell_is_an_error_with_the_line_without_it(rule: str) -> None:
    text = f'[columns.sex]\nsource = "sex"\n{rule}'
    with pytest.raises(DataError) as caught:
        checked(dose_study(), dose_table(), text)
    (problem,) = caught.value.problems
    assert "'9' stands in no cell" in problem.what


def test_truth_values_mean_the_same_whatever_wrote_them(tmp_path: Any) -> None:
    clean = dose_table()
    truth = clean["amiodarone"] == "1"
    for cells in (truth, truth.astype(str), truth.astype(str).str.upper()):
        frame = clean.assign(amiodarone=cells)
        assert checked(dose_study(), frame).usable
        got, wanted = (Encoding(dose_study()).encode(each, "site 0") for each in (frame, clean))
        np.testing.assert_array_equal(got.x, wanted.x)


# Outcomes


@pytest.mark.parametrize("bad", ["999", "-9", "1e308", "105.1", "6.9"])
def test_an_outcome_outside_its_range_is_unknown_in_training_and_in_scoring(bad: str) -> None:
    frame = put(dose_table(), "dose", bad, some(dose_table(), 0.1))
    mask = Encoding(dose_study()).encode(frame, "site 0").mask[:, 0]
    np.testing.assert_array_equal(mask == 1.0, np.isfinite(observe(dose_study(), frame).value))
    assert mask[:20].sum() == 0
    assert mask[20:].all()


def test_the_last_bits_of_a_conversion_put_nobody_outside() -> None:
    frame = dose_table().assign(dose=105.0 * (1 + 1e-14))
    assert checked(dose_study(), frame).usable
    assert Encoding(dose_study()).encode(frame, "site 0").mask.all()


def test_negative_times_are_unknown_everywhere_and_zero_is_fine() -> None:
    clean = survival_table()
    study, rows = survival_study(), some(clean, 0.1)
    spoilt = put(clean, "days", "-5", rows)
    seen = observe(study, spoilt)
    assert np.isnan(seen.value[rows]).all()
    assert Encoding(study).encode(spoilt, "site 0").mask[rows].sum() == 0
    assert not checked(study, spoilt).usable
    assert checked(study, put(clean, "days", "0", rows)).usable


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(
        st.sampled_from(["", "-1", "0", "180", "99999", "x", "inf", "nan", "1e400"]), min_size=1
    ),
    event=st.sampled_from(["0", "1", "2", "TRUE", "", "False", "1.0"]),
)
def test_the_same_patients_are_trained_scored_and_counted(times: list[str], event: str) -> None:
    frame = pd.DataFrame({"days": times}).assign(event=event, age="50", patient="p")
    study = survival_study()
    seen = np.isfinite(observe(study, frame).value)
    trained = Encoding(study).encode(frame, "site 0").mask.any(axis=1)
    assert not (trained & ~seen).any()
    assert checked(study, frame).without_outcome == (~seen).sum()
    assert set(frame["days"][seen]) <= {"0", "180"}


def test_follow_up_in_another_unit_is_refused_with_the_conversion() -> None:
    clean = survival_table()
    months = (clean["days"].astype(float) * 12 / 365.25).astype(str)
    report = checked(survival_study(), clean.assign(days=months))
    assert "months to days" in report.deviations[0].cause
    text = accepted(survival_study(), clean.assign(days=months))
    assert checked(survival_study(), clean.assign(days=months), text).usable
    in_months = survival_study(unit="months", grid=[6, 12, 24, 36, 48])
    report = checked(in_months, clean)
    assert "days to months" in str([each.cause + each.what for each in report.deviations])
    years = (clean["days"].astype(float) / 365.25).astype(str)
    assert (
        "years to days" in checked(survival_study(), clean.assign(days=years)).deviations[0].cause
    )
    late = clean.assign(days="2000")
    assert not checked(survival_study(), late).usable
    assert checked(survival_study(), late, '[columns.days]\nsource = "days"\nas_is = true').usable


def test_events_numbered_from_one_are_refused_with_both_codes() -> None:
    clean = survival_table()
    assert_same_as_clean(
        survival_study(),
        clean.assign(event=clean["event"].map({"0": "1", "1": "2"})),
        clean,
    )


def test_an_event_word_that_never_occurs_is_refused_until_somebody_looked() -> None:
    frame = survival_table().assign(event="0")
    assert not checked(survival_study(), frame).usable
    assert checked(survival_study(), frame, accepted(survival_study(), frame)).usable


# Rows


def test_footers_and_totals_are_named_and_dropped_by_their_line() -> None:
    clean = binary_table()
    footer = {"patient": "Total", "age": "", "prior": "", "response": ""}
    blank = dict.fromkeys(footer, "")
    spoilt = pd.concat([clean, pd.DataFrame([footer, blank])], ignore_index=True)
    assert_same_as_clean(binary_study(), spoilt, clean)


@pytest.mark.parametrize("change", [lambda p: p + "\u200b", str.upper, lambda p: f" {p} "])
def test_a_patient_in_two_rows_is_refused_and_the_rule_is_declared(
    change: Callable[[str], str],
) -> None:
    clean = binary_table()
    again = clean.head(60).assign(patient=clean["patient"].head(60).map(change), age="88")
    assert_same_as_clean(binary_study(), pd.concat([clean, again], ignore_index=True), clean)
    both = pd.concat([clean, again], ignore_index=True)
    for rule, age in (("last", 88.0), ("mean", (float(clean["age"][0]) + 88.0) / 2)):
        done = translate(parse_mapping(f'[patients]\nrows = "{rule}"', "m"), both, binary_study())
        mine = done.frame["patient"].str.strip().str.lower().str.strip("\u200b") == "p0"
        assert done.frame.loc[mine, "age"].astype(float).tolist() == [age]
        assert len(done.frame) == len(clean)


def test_numbers_that_a_spreadsheet_shortened_are_not_called_visits() -> None:
    report = checked(binary_study(), binary_table().assign(patient="4.51E+11"))
    (found,) = report.deviations
    assert "shortened by a spreadsheet" in found.what
    assert "do not merge or drop rows" in found.cause
    assert not found.lines


def test_patients_who_objected_are_left_out() -> None:
    mapping = parse_mapping('[patients]\nexclude = ["P0", "p1 "]', "m")
    done = translate(mapping, binary_table(), binary_study())
    assert "p0" not in set(done.frame["patient"])
    assert len(done.frame) == 198


def test_an_outcome_is_never_cut_to_its_range() -> None:
    text = '[columns.dose]\nsource = "dose"\noutside = "clamp"'
    with pytest.raises(DataError) as caught:
        checked(dose_study(), dose_table(), text)
    assert "unknown" in caught.value.problems[0].what


def test_a_faultless_table_has_no_deviation() -> None:
    for study, table in (
        (dose_study(), dose_table()),
        (survival_study(), survival_table()),
        (binary_study(), binary_table()),
    ):
        report = check_table(study, table, Mapping())
        assert report.usable
        assert not report.deviations
