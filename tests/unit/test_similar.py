"""Similar patients: near in what the model weighs, summarised by five or more, never named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from polyclinic_common.bundle.similar import FEWEST, LIKENESS, TOO_FEW, OwnPatients, Similar
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.head import build_network, initial_weights
from polyclinic_common.models.score_head import Vector, cut
from polyclinic_common.study import Study
from tests.kits.other_studies import some_weights
from tests.kits.small import small_study, small_table, study_data

ARMS = {
    "kind": "arms",
    "column": "arm",
    "arms": ["a", "b"],
    "labels": {"a": "surgery", "b": "watching"},
    "assignment": "observational",
    "source": "test",
}


def weights_of(study: Study, **by_column: float) -> Vector:
    """Return weights that are zero but for the named encoded columns, ``_`` for blanks."""
    encoding = Encoding(study)
    weights = initial_weights(study, encoding, 0)
    last = cut(build_network(study, encoding), weights).last
    for name, weight in by_column.items():
        last[encoding.columns.index(name.replace("_", " "))] = weight
    return weights


def patient(**values: object) -> pd.DataFrame:
    return pd.DataFrame([values])


def told(found: Similar) -> str:
    lines = [*found.treatments, *found.outcomes]
    return " ".join([found.likeness, *(f"{line.of} {line.words}" for line in lines)])


def with_arms(kind: str = "binary") -> tuple[Study, pd.DataFrame]:
    table = small_table(200, 1)
    table["arm"] = np.where(np.arange(200) % 2 == 0, "a", "b")
    return small_study(kind, treatment=ARMS), table


def test_the_nearest_are_those_whose_weighed_values_are_nearest() -> None:
    study, table = small_study("continuous"), small_table(100, 1)
    table["dose"] = table["age"]  # so that the outcome tells who was found
    found = OwnPatients(study, weights_of(study, age=2.0), table).like(patient(age="50"))
    nearest = table["age"].sub(50).abs().nsmallest(found.patients).index
    low, middle, high = table["age"][nearest].quantile([0.25, 0.5, 0.75]).round()
    assert found.patients == 10
    assert f"between {low:g} and {high:g} mg, in the middle {middle:g}" in told(found)


def test_what_the_model_does_not_weigh_makes_nobody_unlike() -> None:
    study, table = small_study("continuous"), small_table(100, 1)
    other = table.assign(sex=table["sex"].sample(frac=1.0, random_state=1).to_numpy())
    weights = weights_of(study, age=2.0)
    asked = patient(age="50", sex="male")
    assert OwnPatients(study, weights, table).like(asked) == OwnPatients(
        study, weights, other
    ).like(asked)
    heavy = weights_of(study, age=0.01, **{"sex_=_male": 5.0})
    assert OwnPatients(study, heavy, table).like(asked) != OwnPatients(study, heavy, other).like(
        asked
    )


def test_hidden_layers_compare_by_what_the_last_of_them_makes_of_patients() -> None:
    study = small_study("continuous", model={"kind": "mlp", "hidden": [4, 3]})
    weights, encoding = some_weights(study), Encoding(study)
    layers = cut(build_network(study, encoding), weights)
    layers.hidden[0][0][:, 2:] = 0.0  # the first layer reads the age alone
    table = small_table(100, 1)
    other = table.assign(sex="female")
    asked = patient(age="50", sex="male")
    assert OwnPatients(study, weights, table).like(asked) == OwnPatients(
        study, weights, other
    ).like(asked)


def test_treatments_are_told_and_not_compared() -> None:
    study, table = with_arms()
    weights = weights_of(study, age=1.0, **{"arm_=_a": 50.0, "arm_=_b": -50.0})
    own = OwnPatients(study, weights, table)
    found = own.like(patient(age="50", arm="a"))
    assert found == own.like(patient(age="50", arm="b"))
    assert [line.of for line in found.treatments] == ["Arm: surgery", "Arm: watching"]
    assert sum(int(line.words.split(" of ")[0]) for line in found.treatments) == found.patients


def test_outcomes_by_treatment_are_told_only_where_every_arm_has_five() -> None:
    study, table = with_arms()
    weights = weights_of(study, age=1.0)
    both = OwnPatients(study, weights, table).like(patient(age="50"))
    assert [line.of for line in both.outcomes] == ["All of them", "Arm: surgery", "Arm: watching"]
    table["arm"] = np.where(np.arange(200) % 8 == 0, "a", "b")
    few = OwnPatients(study, weights, table).like(patient(age="50"))
    assert 0 < int(few.treatments[0].words.split(" of ")[0]) < FEWEST
    assert [line.of for line in few.outcomes] == ["All of them"]


@pytest.mark.parametrize("patients", [0, 1, 4])
def test_fewer_than_five_patients_say_nothing(patients: int) -> None:
    study = small_study()
    own = OwnPatients(study, weights_of(study, age=1.0), small_table(8, 1).head(patients))
    assert own.like(patient(age="50")) == TOO_FEW
    assert not TOO_FEW.outcomes


def test_a_patient_in_several_rows_counts_once() -> None:
    study, table = small_study(), small_table(4, 1)
    again = pd.concat([table] * 5, ignore_index=True)
    assert OwnPatients(study, weights_of(study, age=1.0), again).like(patient(age="50")) == TOO_FEW


def test_an_outcome_that_few_have_known_is_not_told() -> None:
    study, table = small_study(), small_table(50, 1)
    table.loc[4:, "response"] = None
    found = OwnPatients(study, weights_of(study), table).like(patient(age="50"))
    assert found.patients >= FEWEST
    assert found.outcomes[0].words == "too few with a known outcome to say"


def test_no_patient_number_is_told() -> None:
    for kind in ("binary", "continuous", "survival"):
        study, table = with_arms(kind)
        text = told(OwnPatients(study, weights_of(study, age=1.0), table).like(patient(age="50")))
        assert not any(number in text for number in table["patient"])


def test_survival_of_the_nearest_is_that_of_kaplan_and_meier() -> None:
    study, table = small_study("survival"), small_table(200, 1)
    found = OwnPatients(study, weights_of(study, age=2.0), table).like(patient(age="50"))
    near = table.loc[table["age"].sub(50).abs().nsmallest(found.patients).index]
    curve = KaplanMeierFitter().fit(near["days"], near["event"] == "1")
    shares = [f"{100 * curve.predict(end):.0f} of 100 at {end} days" for end in (100, 200, 300)]
    assert found.outcomes[0].words.startswith(f"free of event: {', '.join(shares)}")


def test_how_alike_they_are_is_measured_by_what_is_usual_here() -> None:
    study, table = small_study(), small_table(200, 1)
    table["age"] = np.linspace(20.0, 50.0, 200)
    own = OwnPatients(study, weights_of(study, age=1.0), table)
    assert own.like(patient(age="35")).likeness == LIKENESS[0][1]
    assert own.like(patient(age="80")).likeness == LIKENESS[-1][1]
    blind = OwnPatients(study, weights_of(study), table).like(patient(age="35"))
    assert "sees most patients here as the same" in blind.likeness


def test_the_hospital_makes_nobody_unlike() -> None:
    cohort = study_data()["cohort"] | {"site_indicator": True}
    study, table = small_study(cohort=cohort), small_table(100, 3)
    weights = weights_of(study, age=1.0, **{"hospital_=_site_0": 90.0})
    one = table.assign(hospital="site 1")
    asked = patient(age="50")
    assert OwnPatients(study, weights, table).like(asked) == OwnPatients(study, weights, one).like(
        asked
    )
