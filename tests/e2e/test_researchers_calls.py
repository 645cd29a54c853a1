"""What a researcher calls: predictions and coefficients of a simulation, studies, the version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.bundle.bundle import read_bundle
from polyclinic_common.bundle.predictor import Predictor
from polyclinic_common.errors import Code, ModelError, SimulationError
from polyclinic_common.study import load_study
from polyclinic_common.study.built_in import built_in_studies
from polyclinic_common.version import VERSION
from polyclinic_simulations import simulate
from polyclinic_simulations.results.results import Result, plain_json
from tests.kits.small import small_study, small_table, study_data
from tests.kits.typed import answer, output, refusal, typed

ROUNDS = {"rounds": 3}


@pytest.mark.slow
def test_a_simulation_predicts_with_the_model_of_the_first_private_cell(tmp_path: Path) -> None:
    study, table = small_study("continuous", training=ROUNDS), small_table()
    result = simulate(
        study, table, modes=["none", "local"], epsilons=[4.0], out=tmp_path, bundle=True
    )
    frame = table[["age", "sex"]].head(3).assign(age=[61.0, float("nan"), 200.0])
    frame.index = pd.Index([7, 8, 9])
    made = result.predict(frame)
    assert made.index.tolist() == [7, 8, 9]
    private = [cell for cell in result.cells if cell.epsilon is not None]
    pd.testing.assert_frame_equal(made, result.predict(frame, private[0]))
    plain = result.predict(frame, result.cells[0])
    value = "predicted dose (mg)"
    assert (made[value] != plain[value]).all()
    assert [bool(remark) for remark in made["remarks"]] == [False, True, True]
    bundles = [read_bundle(path) for path in sorted(tmp_path.glob("bundles/*"))]
    ours = [Predictor(b.study, b.model.weights).predict(frame).prediction.value for b in bundles]
    given = sorted([made[value].to_list(), plain[value].to_list()])
    assert sorted(map(list, ours)) == given


def test_coefficients_of_a_simulation_are_those_that_predict() -> None:
    study = small_study("continuous", outcome=small_study("continuous").outcome.model_dump() | {
        "transform": "none"}, training=ROUNDS)  # fmt: skip
    result = simulate(study, small_table(), modes=["none"])
    rows = result.coefficients().set_index("name")
    assert rows.loc[["intercept", "age"], "unit"].to_list() == ["mg", "years"]
    frame = pd.DataFrame({"age": [40.0, 50.0], "sex": ["male", "female"]})
    terms = rows["coefficient"]
    expected = terms["intercept"] + terms["age"] * frame["age"]
    expected += [terms["sex = male"], terms["sex = female"]]
    made = result.predict(frame)["predicted dose (mg)"]
    np.testing.assert_allclose(made, expected, rtol=1e-9)


def test_a_hospital_of_the_study_may_be_named() -> None:
    cohort = study_data()["cohort"] | {"site_indicator": True}
    result = simulate(
        small_study("binary", cohort=cohort, training=ROUNDS), small_table(), modes=["none"]
    )
    one = small_table()[["age", "sex"]].head(1)
    made = [result.predict(one, site=site).iloc[0, 0] for site in (None, "site 0", "site 1")]
    assert len(set(made)) == 3


@pytest.mark.slow
def test_models_come_back_from_the_folder_and_are_in_no_json(tmp_path: Path) -> None:
    study, table = small_study("binary", training=ROUNDS), small_table()
    first = simulate(study, table, modes=["none"], out=tmp_path)
    again = simulate(study, table, modes=["none"], out=tmp_path)
    assert again.cells[0].timing == first.cells[0].timing  # nothing was trained anew
    frame = table[["age", "sex"]]
    pd.testing.assert_frame_equal(first.predict(frame), again.predict(frame))
    for path in tmp_path.glob("models/*"):
        path.unlink()
    anew = simulate(study, table, modes=["none"], out=tmp_path)
    pd.testing.assert_frame_equal(first.predict(frame), anew.predict(frame))
    assert "models" not in plain_json(first)
    read = Result.model_validate_json(first.model_dump_json())
    with pytest.raises(SimulationError) as refused:
        read.predict(frame)
    assert refused.value.code == Code.SIMULATION_OPTION


def test_hidden_layers_have_no_coefficients() -> None:
    study = small_study("binary", model={"kind": "mlp", "hidden": [3]}, training=ROUNDS)
    result = simulate(study, small_table(), modes=["none"])
    assert result.predict(small_table()[["age", "sex"]]).shape == (120, 2)
    with pytest.raises(ModelError) as refused:
        result.coefficients()
    assert refused.value.code == Code.MODEL_SHAPE


@pytest.mark.slow
def test_built_in_studies_are_listed_and_shown_by_name() -> None:
    listed = answer("study", "list")
    assert [each["name"] for each in listed] == list(built_in_studies())
    assert {"gbsg2", "heart", "warfarin"} <= {each["name"] for each in listed}
    text = output("study", "list")
    for name, path in built_in_studies().items():
        assert f"{name:<14}" in text
        assert load_study(path).title in text
    gbsg2 = built_in_studies()["gbsg2"]
    assert output("study", "show", "gbsg2") == output("study", "show", gbsg2)
    assert answer("study", "check", "gbsg2")["hash"] == load_study(gbsg2).hash()


@pytest.mark.slow
def test_a_study_that_is_neither_built_in_nor_a_file_is_refused_by_name() -> None:
    code, remedy = refusal("study", "show", "gbsg3")
    assert code == Code.STUDY_UNKNOWN
    assert "gbsg2" in remedy


def test_the_version_is_told() -> None:
    assert output("--version") == f"polyclinic {VERSION}\n"
    assert typed("--version", "study").status == 0
