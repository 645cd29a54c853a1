"""Predictions from a bundle: what training would have said, and what has to be said beside it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.bundle.answers import columns_of
from polyclinic_common.bundle.here import ModelHere
from polyclinic_common.bundle.local_calibration import LocalCalibration, Width, keep
from polyclinic_common.bundle.opening import OpenedBundle
from polyclinic_common.bundle.patients import patient_frame, to_contract
from polyclinic_common.bundle.predictor import Predictor, restricted_mean
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.mapping import parse_mapping
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.head import length_of
from polyclinic_common.models.predict import predict
from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Survival
from tests.kits.bundles import bundle_of_study
from tests.kits.small import small_study, small_table

KINDS = ("binary", "continuous", "survival")


def weights_of(study: Study) -> np.ndarray:
    return np.random.default_rng(3).normal(size=length_of(study))


def inputs(rows: int = 40) -> pd.DataFrame:
    return small_table(rows)[["patient", "age", "sex"]].astype(str)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_is_that_of_training(kind: str) -> None:
    study = small_study(kind)
    weights, table = weights_of(study), small_table(40)
    encoding = Encoding(study)
    x = encoding.encode(table, "site 1").x
    wanted = predict(study, encoding, weights, x)
    found = Predictor(study, weights, "site 1").predict(to_contract(study, inputs())).prediction
    np.testing.assert_array_equal(found.value, wanted.value)
    if wanted.survival is not None and found.survival is not None:
        np.testing.assert_array_equal(found.survival, wanted.survival)


def test_one_odd_patient_blocks_and_changes_no_other() -> None:
    study = small_study("binary")
    predictor, table = Predictor(study, weights_of(study)), inputs()
    alone = predictor.predict(to_contract(study, table))
    odd = table.copy()
    odd.loc[3, ["age", "sex"]] = ["about sixty", "male"]
    odd.loc[5, "sex"] = "unknown to the study"
    odd.loc[7, "age"] = "130"
    odd.loc[9, "age"] = ""
    found = predictor.predict(to_contract(study, odd))
    changed = [3, 5, 7, 9]
    assert np.flatnonzero(~found.given).tolist() == [3, 5]
    assert np.isnan(found.prediction.value[[3, 5]]).all()
    rest = np.setdiff1d(np.arange(len(table)), changed)
    np.testing.assert_array_equal(found.prediction.value[rest], alone.prediction.value[rest])
    kinds = {row: [(f.column, f.kind) for f in found.flags[row]] for row in changed}
    assert kinds == {
        3: [("age", "not covered")],
        5: [("sex", "not covered")],
        7: [("age", "clamped")],
        9: [("age", "missing")],
    }
    assert not any(found.flags[row] for row in rest)


def test_strict_gives_no_number_outside_a_range() -> None:
    study = small_study("binary")
    odd = inputs()
    odd.loc[7, "age"] = "130"
    found = Predictor(study, weights_of(study)).predict(to_contract(study, odd), strict=True)
    assert np.flatnonzero(~found.given).tolist() == [7]


def test_no_cell_stands_in_what_is_said_of_a_patient() -> None:
    study = small_study("binary")
    odd = inputs()
    odd.loc[3, ["age", "sex"]] = ["Marlene", "Dietrich"]
    for flag in Predictor(study, weights_of(study)).predict(to_contract(study, odd)).flags[3]:
        assert "Marlene" not in flag.words
        assert "Dietrich" not in flag.words


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.drop(columns="sex"),
        lambda frame: frame.assign(sex=frame["sex"].map({"male": "1", "female": "2"})),
        lambda frame: frame.assign(age=(frame["age"].astype(float) * 12).astype(str)),
        lambda frame: frame.assign(age=["old"] * len(frame)),
    ],
    ids=["absent", "recoded", "months", "words"],
)
def test_a_column_that_is_another_as_a_whole_refuses_the_table(change: object) -> None:
    assert callable(change)
    with pytest.raises(BundleError) as caught:
        to_contract(small_study("binary"), change(inputs()))
    assert caught.value.code == Code.TABLE_UNLIKE
    assert len(caught.value.problems) >= 1


def test_the_mapping_of_training_serves_newer_patients_without_outcomes() -> None:
    study = small_study("binary")
    rules = parse_mapping(
        """
        [columns.patient]
        source = "ID"
        [columns.age]
        source = "MONTHS"
        factor = 0.0833333333333
        [columns.sex]
        source = "SEX"
        codes = { "1" = "male", "2" = "female", "9" = "" }
        [columns.response]
        source = "ANSWER"
        """,
        "map.toml",
    )
    table = inputs()
    extract = pd.DataFrame(
        {
            "MONTHS": (table["age"].astype(float) * 12).astype(str),
            "SEX": table["sex"].map({"male": "1", "female": "2"}),
        }
    )
    predictor = Predictor(study, weights_of(study))
    found = predictor.predict(to_contract(study, extract, rules))
    wanted = predictor.predict(to_contract(study, table))
    np.testing.assert_allclose(found.prediction.value, wanted.prediction.value, rtol=1e-9)


def test_a_hospital_outside_the_roster_has_no_indicator_and_is_told() -> None:
    data = small_study("binary").model_dump(mode="json", exclude_none=True)
    data["cohort"]["site_indicator"] = True
    study = Study.model_validate_json(Study.model_validate(data).model_dump_json())
    inside, outside = (
        Predictor(study, weights_of(study), name) for name in ("site 1", "elsewhere")
    )
    frame = to_contract(study, inputs())
    at = [Encoding(study).columns.index(f"hospital = site {k}") for k in range(3)]
    assert not inside.is_outside
    assert outside.is_outside
    assert outside.encode(frame)[:, at].sum() == 0.0
    assert inside.encode(frame)[:, at[1]].all()


def test_a_patient_is_read_or_refused_with_every_reason() -> None:
    study = small_study("binary")
    assert patient_frame(study, {"age": "61", "sex": "male"}).shape == (1, 2)
    with pytest.raises(BundleError) as caught:
        patient_frame(study, {"age": "sixty", "sex": "m", "weight": "80"})
    assert caught.value.code == Code.PATIENT_INVALID
    assert {each.place for each in caught.value.problems} == {"age", "sex", "weight"}


def test_a_patient_of_whom_nothing_is_known_has_a_prediction() -> None:
    study = small_study("survival")
    found = Predictor(study, weights_of(study)).predict(patient_frame(study, {}))
    assert found.given.all()
    assert {flag.kind for flag in found.flags[0]} == {"missing"}


def test_the_restricted_mean_is_the_area_under_the_curve() -> None:
    """By hand: 100 * (1 + .8)/2 + 100 * (.8 + .6)/2 + 100 * (.6 + .6)/2 + 100 * (.6 + .2)/2."""
    outcome = small_study("survival").outcome
    assert isinstance(outcome, Survival)
    found = restricted_mean(outcome, np.array([[0.8, 0.6, 0.6, 0.2]]))
    np.testing.assert_allclose(found, [90.0 + 70.0 + 60.0 + 40.0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_names_its_unit(kind: str) -> None:
    study = small_study(kind)
    found = Predictor(study, weights_of(study)).predict(to_contract(study, inputs()))
    names = list(columns_of(found))
    units = {"binary": "response = yes", "continuous": "(mg)", "survival": "days"}
    assert all(units[kind] in name for name in names)


def with_indicator() -> Study:
    data = small_study("continuous").model_dump(mode="json", exclude_none=True)
    data["cohort"]["site_indicator"] = True
    return Study.model_validate_json(Study.model_validate(data).model_dump_json())


def test_a_calibration_made_under_another_hospitals_name_is_left_out_and_told(
    tmp_path: Path,
) -> None:
    study, operator = with_indicator(), Identity.generate()
    bundle = bundle_of_study(study, operator, simulated=True)
    opened = OpenedBundle(bundle, None, ())
    kept = LocalCalibration(
        bundle=bundle.digest,
        made=dt.date(2026, 12, 1),
        alpha=0.1,
        patients=50,
        held_out=0,
        hospital="site 1",
        found=Width(half_width=0.1),
    )
    file = tmp_path / "kept.json"
    keep(kept, file)
    its_own = ModelHere.of(opened, tmp_path, None, file)
    assert its_own.local == kept
    assert its_own.predictor.site == "site 1"
    frame = to_contract(study, inputs(3))
    for name in ("site 2", "elsewhere"):
        for other in (ModelHere.of(opened, tmp_path, name, file), its_own.under(name)):
            assert other.local is None
            assert any("another hospital's name" in note for note in other.notes)
            found = other.intervals(other.predictor.predict(frame))
            assert all(each is None or each.how != "conformal" for each in found)
    assert its_own.under("site 2").under("site 1").local == kept
