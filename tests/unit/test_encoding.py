"""The encoding is total, bounded and row-wise, and reads what laboratories and hospitals write."""

from __future__ import annotations

import datetime as dt
import tomllib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pandas.testing import assert_series_equal

from polyclinic_common.data.encoding import Cohort, Encoding, inverse_transform, transform
from polyclinic_common.data.values import as_number, as_text
from polyclinic_common.errors import Code, DataError
from polyclinic_common.study import Study, parse_study
from polyclinic_common.study.load import TEMPLATE
from polyclinic_common.study.outcomes import Continuous

Data = dict[str, Any]
CONTINUOUS: Data = {
    "kind": "continuous",
    "column": "result",
    "unit": "mg/week",
    "range": [4, 100],
    "source": "label",
}
SURVIVAL: Data = {
    "kind": "survival",
    "time": "days",
    "event": "event",
    "occurred": "1",
    "censored": "0",
    "unit": "days",
    "grid": [100, 200, 300],
    "source": "protocol",
}
BINARY: Data = {
    "kind": "binary",
    "column": "response",
    "positive": "yes",
    "negative": "no",
    "source": "protocol",
}
SNP: Data = {"name": "snp", "kind": "snp", "reference": "G", "effect": "A", "source": "rs9923231"}
DIPLOTYPE: Data = {
    "name": "cyp",
    "kind": "diplotype",
    "alleles": ["*2", "*3"],
    "source": "PharmVar",
}
PANEL: Data = {
    "name": "panel",
    "kind": "panel",
    "columns": ["g1", "g2", "g3"],
    "unit": "log2 TPM",
    "range": [0, 16],
    "source": "assay",
}
PROJECTED: Data = {
    **PANEL,
    "name": "projected",
    "columns": ["h1", "h2", "h3"],
    "projection": {"width": 1, "seed": 3},
}


def study_of(outcome: Data = BINARY, **cohort: object) -> Study:
    """Return a study with every kind of feature."""
    data = tomllib.loads(TEMPLATE.read_text(encoding="utf-8"))
    data["outcome"] = outcome
    data["cohort"]["features"] += [SNP, DIPLOTYPE, PANEL, PROJECTED]
    data["cohort"] |= {"site_indicator": True, **cohort}
    return parse_study(data, "test")


STUDIES = {outcome["kind"]: study_of(outcome) for outcome in (BINARY, CONTINUOUS, SURVIVAL)}
COLUMNS = sorted({column for study in STUDIES.values() for column in study.columns()})
WORDS = ["I", "male", "A/G", "*1/*3", "yes", "1", "0", "55", "-3", "1e400", "drug X", "nan", "1.0"]
CELL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=6),
    st.binary(max_size=4),
    st.sampled_from(WORDS),
    st.sampled_from([pd.NA, pd.NaT, dt.date(2020, 1, 1), pd.Timestamp("2020-01-01"), (), "½"]),
)
ROWS = st.lists(st.tuples(*[CELL] * len(COLUMNS)), min_size=1, max_size=8)


def junk(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    """Return a table that keeps every cell as it is."""
    columns = {
        name: pd.Series([row[i] for row in rows], dtype=object) for i, name in enumerate(COLUMNS)
    }
    return pd.DataFrame(columns)


def bits(cohort: Cohort) -> tuple[bytes, bytes, bytes]:
    return cohort.x.tobytes(), cohort.y.tobytes(), cohort.mask.tobytes()


@pytest.mark.parametrize("kind", STUDIES)
@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_whatever_stands_in_a_cell_gives_a_finite_bounded_row(
    kind: str, rows: list[tuple[object, ...]]
) -> None:
    encoding = Encoding(STUDIES[kind])
    cohort = encoding.encode(junk(rows), "north")
    assert cohort.x.shape == (len(rows), encoding.width)
    assert cohort.y.shape == cohort.mask.shape == (len(rows), encoding.outputs)
    assert np.isfinite(cohort.x).all()
    assert np.abs(cohort.x * encoding.row_scale).max() <= 2.0  # copies of a star allele
    assert np.isfinite(cohort.y).all()
    assert np.abs(cohort.y).max() <= 1.0
    assert np.isin(cohort.mask, (0.0, 1.0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", STUDIES)
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, data=st.data())
def test_a_row_depends_on_nothing_but_that_patient(
    kind: str, rows: list[tuple[object, ...]], data: st.DataObject
) -> None:
    encoding = Encoding(STUDIES[kind])
    order = data.draw(st.permutations(range(len(rows))))
    chosen = np.array(order[: data.draw(st.integers(1, len(rows)))])
    whole = encoding.encode(junk(rows), "north").take(chosen)
    part = encoding.encode(junk([rows[i] for i in chosen]), "north")
    assert bits(part) == bits(whole)


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_numbers_read_the_same_as_text_and_as_numbers(values: list[float]) -> None:
    text = pd.Series([repr(value) for value in values], dtype=object)
    np.testing.assert_allclose(as_number(text), as_number(pd.Series(values)), rtol=1e-12)


def test_an_absent_column_counts_as_missing_for_everybody() -> None:
    encoding = Encoding(study_of())
    frame = pd.DataFrame({"response": ["yes", "no"]})
    x = encoding.encode(frame, "north").x * encoding.row_scale
    column = dict(zip(encoding.columns, x.T, strict=True))
    for name in ("age missing", "stage missing", "sex = missing", "snp missing", "cyp missing"):
        assert column[name].tolist() == [1.0, 1.0]
    assert column["panel missing share"].tolist() == [1.0, 1.0]
    assert column["age"].tolist() == [0.0, 0.0]


def test_an_empty_site_encodes_to_no_rows() -> None:
    encoding = Encoding(study_of())
    assert encoding.encode(pd.DataFrame({"age": []}), "north").x.shape == (0, encoding.width)


def test_out_of_range_is_clamped_to_the_public_range() -> None:
    encoding = Encoding(study_of())
    frame = pd.DataFrame({"age": ["18", "54", "90", "-5", "400", "inf"]})
    age = encoding.encode(frame, "north").x[:, 0] * encoding.row_scale
    np.testing.assert_allclose(age, [-1, 0, 1, -1, 1, 0])


def test_the_site_is_the_one_named_not_the_one_in_the_table() -> None:
    encoding = Encoding(study_of())
    x = encoding.encode(pd.DataFrame({"hospital": ["south"]}), "north").x * encoding.row_scale
    assert x[0, encoding.columns.index("hospital = north")] == pytest.approx(1.0)
    assert x[0, encoding.columns.index("hospital = south")] == 0.0


def test_a_site_outside_the_roster_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        Encoding(study_of()).encode(pd.DataFrame({"age": ["50"]}), "elsewhere")
    assert caught.value.code is Code.SITE_UNKNOWN


def encoded(column: str, words: list[object], *names: str) -> NDArray[np.float64]:
    encoding = Encoding(study_of())
    x = encoding.encode(pd.DataFrame({column: pd.Series(words, dtype=object)}), "north").x
    return x[:, [encoding.columns.index(name) for name in names]] * encoding.row_scale


def test_the_order_and_the_spelling_of_two_bases_do_not_matter() -> None:
    words: list[object] = ["A/G", "G/A", "AG", "GA", "A|G", "a g", "ag"]
    assert encoded("snp", words, "snp", "snp missing").tolist() == [[0.0, 0.0]] * len(words)
    assert encoded("snp", ["A/A", "GG"], "snp")[:, 0] == pytest.approx([1.0, -1.0])
    unknown: list[object] = ["A/T", "A", "A/G/A", None, "??"]
    assert encoded("snp", unknown, "snp missing")[:, 0] == pytest.approx(np.ones(5))


def test_the_order_and_the_spelling_of_star_alleles_do_not_matter() -> None:
    names = ("cyp *2", "cyp *3", "cyp missing")
    words: list[object] = ["*1/*3", "*3/*1", "1/3", "*1|*3", "*1 *3"]
    np.testing.assert_allclose(encoded("cyp", words, *names), [[0, 1, 0]] * len(words))
    np.testing.assert_allclose(encoded("cyp", ["*2/*2", "*1/*1"], *names), [[2, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(encoded("cyp", ["*1/*9", "*1"], *names), [[0, 0, 1]] * 2)


@pytest.mark.parametrize(
    ("days", "event", "target", "at_risk"),
    [
        (150, "1", [0, 1, 0], [1, 1, 0]),
        (150, "0", [0, 0, 0], [1, 0, 0]),
        (100, "1", [1, 0, 0], [1, 0, 0]),
        (100, "0", [0, 0, 0], [0, 0, 0]),
        (300, "1", [0, 0, 1], [1, 1, 1]),
        (301, "1", [0, 0, 0], [1, 1, 1]),
        (999, "0", [0, 0, 0], [1, 1, 1]),
        (-1, "1", [0, 0, 0], [0, 0, 0]),
        (150, "unknown", [0, 0, 0], [0, 0, 0]),
        (None, "1", [0, 0, 0], [0, 0, 0]),
    ],
)
def test_survival_targets_are_the_known_ones(
    days: float | None, event: str, target: list[float], at_risk: list[float]
) -> None:
    frame = pd.DataFrame({"days": [days], "event": [event]})
    cohort = Encoding(STUDIES["survival"]).encode(frame, "north")
    assert cohort.y.tolist() == [target]
    assert cohort.mask.tolist() == [at_risk]


def test_binary_outcomes_match_as_text_whatever_type_the_file_has() -> None:
    study = study_of({**BINARY, "positive": "1", "negative": "0"})
    for values in ([1, 0, None], [1.0, 0.0, np.nan], ["1", " 0.0", ""], [True, False, None]):
        cohort = Encoding(study).encode(pd.DataFrame({"response": values}), "north")
        assert cohort.y[:, 0].tolist() == [1.0, 0.0, 0.0]
        assert cohort.mask[:, 0].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["none", "sqrt", "log"])
def test_transforms_invert(name: str) -> None:
    outcome = Continuous.model_validate({**CONTINUOUS, "transform": name})
    values = np.linspace(4.0, 100.0, 25)
    frame = pd.DataFrame({"result": values})
    cohort = Encoding(study_of({**CONTINUOUS, "transform": name})).encode(frame, "north")
    np.testing.assert_allclose(inverse_transform(outcome, cohort.y[:, 0]), values, rtol=1e-12)
    assert transform(outcome, values).shape == values.shape


def test_a_missing_date_is_missing_and_not_a_number() -> None:
    dates = pd.Series([pd.Timestamp("2020-01-01"), pd.NaT])
    assert np.isnan(as_number(dates)).all()
    assert as_text(dates).isna().tolist() == [False, True]


def test_one_value_is_one_word_in_every_type_of_column() -> None:
    expected = pd.Series(["1", None], dtype=object)
    columns = [
        pd.Series([1.0, np.nan]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([True, None], dtype="boolean"),
        pd.Series([True, None], dtype=object),
        pd.Series(["1.0", "NA"]),
        pd.Series(["1", None], dtype="category"),
        pd.Series([" 1 ", ""], dtype="string"),
    ]
    for column in columns:
        assert_series_equal(as_text(column), expected)
