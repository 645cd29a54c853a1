"""Coefficients in natural units mean what they say, and go back and forth without loss."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_common.cli.main import main
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.models.coefficients import Row, from_rows, read_rows, rows_of, write_rows
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.natural import to_weights
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.models.start import Start, read_start
from polyclinic_common.models.vectors import save_model
from polyclinic_common.study import Study, load_study
from polyclinic_simulations.studies import dosing, iwpc
from tests.kits.other_studies import AGE, EVERY, SEX, SNP, WEIGHT, patients, some_weights, study
from tests.kits.small import small_study, small_table

IWPC = Path(iwpc.__file__).with_name("study.toml")
DOCS = Path(__file__).parents[2] / "docs"


def read(folder: Path, of: Study, text: str) -> Start:
    path, encoding = folder / "c.csv", Encoding(of)
    path.write_text(text)
    return read_start(path, of, encoding, initial_weights(of, encoding, 0))


def predicted(of: Study, weights: Vector, table: pd.DataFrame) -> Vector:
    encoding = Encoding(of)
    return predict(of, encoding, weights, encoding.encode(table, of.roster.sites[0]).x).value


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["binary", "continuous", "survival"]),
    st.lists(st.sampled_from(EVERY), min_size=1, max_size=7, unique_by=lambda f: f["name"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_weights_come_back_from_the_table_they_are_written_to(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    features: list[dict[str, Any]],
    indicator: bool,
    seed: int,
) -> None:
    of = study(*features, kind=kind, indicator=indicator)
    weights, encoding = some_weights(of, seed), Encoding(of)
    rows = rows_of(of, encoding, weights)
    path = tmp_path_factory.mktemp("table") / "c.csv"
    path.write_text(write_rows(rows))
    assert read_rows(path) == rows
    found = from_rows(of, encoding, rows)
    assert (found.new, found.gone, found.converted) == ((), (), ())
    back = to_weights(of, encoding, found.model)
    np.testing.assert_allclose(back, weights, rtol=1e-9, atol=1e-9)
    again = rows_of(of, encoding, back)
    assert [(row.name, row.unit) for row in again] == [(row.name, row.unit) for row in rows]
    np.testing.assert_allclose(
        [row.coefficient for row in again], [row.coefficient for row in rows], rtol=1e-9, atol=1e-9
    )


def test_predictions_are_those_of_a_hand_computation(tmp_path: Path) -> None:
    of = study(*EVERY)
    table = patients(200)
    weights = read(
        tmp_path,
        of,
        "name,coefficient\nintercept,-1.25\nage,0.02\nage missing,0.75\nsex=male,-0.5\n"
        "sex = missing,0.125\ngrade,0.3\nsnp,0.4\ncyp *3,-0.2\ncyp missing,0.05\ngenes g2,0.1\n",
    ).weights
    age, copies = table.age.astype(float), {"G/G": 0.0, "A/G": 1.0, "A/A": 2.0}
    logit = (
        -1.25
        + (0.02 * age).fillna(0.75)
        + table.sex.map({"male": -0.5, "female": 0.0}).fillna(0.125)
        + 0.3 * table.grade.map({"I": 0.0, "II": 1.0, "III": 2.0}).fillna(1.0)  # the middle level
        + 0.4 * table.snp.map(copies).fillna(1.0)
        - 0.2 * table.cyp.map(lambda word: word.count("*3"), na_action="ignore").fillna(-0.25)
        + 0.1 * table.g2.astype(float).fillna(3.0)  # the middle of -4 to 10
    )
    by_hand = 1 / (1 + np.exp(-logit.to_numpy(dtype=float)))
    np.testing.assert_allclose(predicted(of, weights, table), by_hand, rtol=1e-12)


def test_units_of_a_table_are_converted_where_the_conversion_is_known(tmp_path: Path) -> None:
    of = study(AGE, WEIGHT, SNP)
    plain = "name,coefficient,unit\nintercept,0.1,\nage,0.03,years\nweight,-0.02,kg\nsnp,0.4,\n"
    other = (
        "name,coefficient,unit\nintercept,0.9,log odds of response = yes\nage,0.3,decades\n"
        "weight,-0.0090718474,lb\nsnp,-0.4,copy of G\n"
    )
    found = read(tmp_path, of, other)
    assert found.converted == ("age", "weight", "snp")
    np.testing.assert_allclose(found.weights, read(tmp_path, of, plain).weights, atol=1e-12)


def test_rows_without_a_column_and_columns_without_a_row_are_named(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        study(AGE, SEX),
        "name,coefficient\nintercept,0\nage,1\nage missing,3\nla\x1bbs,2\n",
    )
    assert (found.new, found.gone) == (("sex",), ("la\x1bbs",))
    assert found.words()[1] == "gone, left out: la\ufffdbs"


REFUSED = {
    "no intercept": ("name,coefficient\nage,0.1\n", Code.MODEL_SHAPE),
    "no column of the study": ("name,coefficient\nintercept,0\nage of onset,1\n", Code.MODEL_SHAPE),
    "another outcome": (
        "name,coefficient,unit\nintercept,0,log odds of response = no\nage,0.1,\n",
        Code.MODEL_SHAPE,
    ),
    "an unknown unit": (
        "name,coefficient,unit\nintercept,0,\nage,0.1,fortnights\n",
        Code.MODEL_COLUMN,
    ),
    "a unit of a level": (
        "name,coefficient,unit\nintercept,0,\nsex=male,0.1,kg\n",
        Code.MODEL_COLUMN,
    ),
    "no number": ("name,coefficient\nintercept,0\nage,much\n", Code.MODEL_UNREADABLE),
    "not finite": ("name,coefficient\nintercept,0\nage,inf\n", Code.MODEL_UNREADABLE),
    "a name twice": ("name,coefficient\nintercept,0\nage,1\nage,1\n", Code.MODEL_UNREADABLE),
    "other headings": ("term;value\nintercept;0\n", Code.MODEL_UNREADABLE),
    "a row cut off": ("name,coefficient\nintercept\n", Code.MODEL_UNREADABLE),
    "a row too long": ("name,coefficient\nintercept,0,1,2\n", Code.MODEL_UNREADABLE),
    "nothing": ("", Code.MODEL_UNREADABLE),
    "no rows": ("name,coefficient\n", Code.MODEL_UNREADABLE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    text, code = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        read(tmp_path, small_study(), text)
    assert caught.value.code is code


def test_hidden_layers_and_names_that_meet_have_no_table() -> None:
    layered = small_study(model={"kind": "mlp", "hidden": [4]})
    named = study(AGE, AGE | {"name": "age missing"})
    constant = study(AGE | {"name": "intercept"})
    for of in (layered, named, constant):
        with pytest.raises(ModelError) as caught:
            rows_of(of, Encoding(of), some_weights(of))
        assert caught.value.code is Code.MODEL_SHAPE


def test_a_trained_model_is_written_as_a_table_and_starts_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of, model, table = small_study(), tmp_path / "m.safetensors", tmp_path / "m.csv"
    weights = some_weights(of)
    save_model(model, of, weights)
    main_status(["study", "coefficients", str(model), "--out", str(table)])
    assert "Wrote" in capsys.readouterr().out
    encoding = Encoding(of)
    found = read_start(table, of, encoding, initial_weights(of, encoding, 0))
    np.testing.assert_allclose(found.weights, weights, rtol=1e-9)
    people = small_table(20)
    rows = {row.name: row.coefficient for row in read_rows(table)}
    logit = (
        rows["intercept"]
        + rows["age"] * people.age
        + people.sex.map({word: rows[f"sex = {word}"] for word in ("female", "male")})
    )
    np.testing.assert_allclose(predicted(of, weights, people), 1 / (1 + np.exp(-logit)), rtol=1e-12)


def main_status(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0


def published_table() -> list[Row]:
    """Return the table that docs/starts.md shows."""
    text = (DOCS / "starts.md").read_text()
    table = text.partition("```csv\n")[2].partition("```")[0]
    lines = list(csv.DictReader(table.splitlines()))
    assert lines
    return [Row(line["name"], float(line["coefficient"]), line["unit"]) for line in lines]


def test_the_published_warfarin_formula_of_the_docs_gives_the_published_doses(
    tmp_path: Path,
) -> None:
    """For genotypes whose terms add up; the formula counts decades from their lower ends."""
    of = load_study(IWPC)
    found = read(tmp_path, of, write_rows(published_table()))
    assert found.gone == ()
    absent = [f"{name} missing" for name in ("age", "height", "weight")]
    assert found.new == (*absent, "cyp2c9 *5", "cyp2c9 *6", "cyp2c9 *11", "site")
    rng = np.random.default_rng(2)
    people = pd.DataFrame(
        {
            "age": rng.choice(np.arange(25, 90, 10), 300),
            "height": rng.uniform(150, 190, 300),
            "weight": rng.uniform(50, 130, 300),
            "race": rng.choice(
                np.array(["Asian", "White", "Black or African American", None]), 300
            ),
            "vkorc1": rng.choice(np.array(["G/G", "A/A", None]), 300),
            "cyp2c9": rng.choice(np.array(["*1/*1", "*1/*2", "*1/*3", None]), 300),
            "amiodarone": rng.choice(np.array(["0", "1", None]), 300),
            "enzyme_inducer": rng.choice(np.array(["0", "1", None]), 300),
        }
    )
    doses = dosing.PHARMACOGENETIC.root_dose(people) ** 2
    np.testing.assert_allclose(
        predicted(of, found.weights, people), np.clip(doses, 7, 105), rtol=1e-9
    )
