"""A model of another study starts this one: what both call by one name means the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.models.head import build_network, initial_weights
from polyclinic_common.models.score_head import Vector, logits
from polyclinic_common.models.start import Start, read_start
from polyclinic_common.models.vectors import save_model, save_vectors
from polyclinic_common.study import Study
from tests.kits.other_studies import (
    AGE,
    CYP,
    EVERY,
    GENES,
    GRADE,
    SEX,
    SNP,
    WEIGHT,
    patients,
    some_weights,
    study,
)
from tests.kits.small import OUTCOMES, small_study

SITES = ["site 0", "site 1", "site 2"]


def started(path: Path, of: Study) -> Start:
    encoding = Encoding(of)
    return read_start(path, of, encoding, initial_weights(of, encoding, 0))


def carried(folder: Path, old: Study, weights: Vector, new: Study) -> Start:
    save_model(folder / "m.safetensors", old, weights)
    return started(folder / "m.safetensors", new)


def scores(of: Study, weights: Vector, table: pd.DataFrame, site: str = "site 1") -> Vector:
    """Return logits, or values on the transformed scale before any clamp."""
    encoding = Encoding(of)
    found = logits(build_network(of, encoding), weights, encoding.encode(table, site).x)
    if of.outcome.kind == "continuous":
        low, high = np.sqrt(of.outcome.range)
        found = (found + 1) / 2 * (high - low) + low
    return found


def with_head(of: Study, kind: str, model: dict[str, Any]) -> Study:
    data = of.model_dump(mode="json", exclude_none=True)
    parts = {name: data[name] for name in ("cohort", "treatment") if name in data}
    return small_study(kind, subgroups=[], model=model, **parts)


WIDER = {
    "more columns": (study(AGE), study(*EVERY)),
    "a site indicator": (study(AGE, SEX), study(AGE, SEX, indicator=True)),
    "a treatment": (
        study(AGE),
        study(
            AGE,
            treatment={
                "kind": "arms",
                "column": "arm",
                "arms": ["drug", "placebo"],
                "assignment": "randomised",
                "source": "test",
            },
        ),
    ),
    "another order": (study(*EVERY), study(*EVERY[::-1])),
    "another range": (study(AGE, WEIGHT), study(AGE | {"range": [0, 110]}, WEIGHT)),
    "another unit": (
        study(AGE, WEIGHT),
        study(
            AGE | {"unit": "decades", "range": [1, 9]}, WEIGHT | {"unit": "lb", "range": [70, 330]}
        ),
    ),
    "more levels": (
        study(SEX, GRADE),
        study(
            SEX | {"levels": ["other", "male", "female"]},
            GRADE | {"levels": ["0", "I", "II", "III"]},
        ),
    ),
    "the other allele counted": (
        study(SNP, AGE),
        study(SNP | {"reference": "A", "effect": "G"}, AGE),
    ),
    "more alleles": (study(CYP), study(CYP | {"alleles": ["*3", "*5", "*2"]})),
    "panel in another order": (study(GENES), study(GENES | {"columns": ["g3", "g1", "g2"]})),
}


def in_units_of(new: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Return the patients in the units of the new study."""
    units = {f.name: f.unit for f in new.cohort.features if f.kind == "numeric"}
    factors = {"age": {"decades": 0.1}, "weight": {"lb": 1 / 0.45359237}}
    table = table.copy()
    for name, unit in units.items():
        table[name] = table[name] * factors.get(name, {}).get(unit, 1.0)
    return table


@pytest.mark.parametrize("case", WIDER)
@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
@pytest.mark.parametrize("hidden", [[], [4], [5, 3]])
def test_a_start_scores_every_patient_as_the_model_it_comes_from(
    tmp_path: Path, case: str, kind: str, hidden: list[int]
) -> None:
    model = {"kind": "mlp", "hidden": hidden} if hidden else {"kind": "linear"}
    old, new = (with_head(each, kind, model) for each in WIDER[case])
    weights, table = some_weights(old), patients()
    found = carried(tmp_path, old, weights, new)
    np.testing.assert_allclose(
        scores(new, found.weights, in_units_of(new, table)),
        scores(old, weights, table),
        rtol=1e-9,
        atol=1e-9,
    )


def test_what_is_new_starts_at_zero_and_what_is_gone_is_named(tmp_path: Path) -> None:
    old = study(AGE, WEIGHT, SEX, indicator=True)
    new = study(AGE, SEX | {"levels": ["female", "diverse"]}, SNP)
    found = carried(tmp_path, old, some_weights(old), new)
    assert found.new == ("sex = diverse", "snp")
    assert found.gone == ("weight", "sex = male", "hospital")
    assert found.converted == ()
    named = dict(zip(Encoding(new).columns[:-1], found.weights[:-1], strict=True))
    zero = {name for name, weight in named.items() if weight == 0.0}
    assert zero == {"sex = diverse", "snp", "snp missing"}
    assert found.words() == (
        "new, started at zero: sex = diverse, snp",
        "gone, left out: weight, sex = male, hospital",
    )


def test_conversions_are_named(tmp_path: Path) -> None:
    old, new = WIDER["another unit"]
    assert carried(tmp_path, old, some_weights(old), new).converted == ("age", "weight")


UNLIKE = {
    "a unit that nothing converts": (WEIGHT, WEIGHT | {"unit": "stone"}),
    "ranges apart": (AGE, AGE | {"range": [80, 120]}),
    "another kind": (GRADE, GRADE | {"kind": "categorical"}),
    "levels in another order": (GRADE, GRADE | {"levels": ["III", "II", "I"]}),
    "other alleles": (SNP, SNP | {"effect": "T"}),
    "another reference": (CYP, CYP | {"reference": "*1A"}),
    "a panel of other columns": (GENES, GENES | {"columns": ["g1", "g2"]}),
    "a panel of another range": (GENES, GENES | {"range": [-4, 12]}),
}


@pytest.mark.parametrize("case", UNLIKE)
def test_columns_of_one_name_that_nothing_converts_are_refused(tmp_path: Path, case: str) -> None:
    before, now = UNLIKE[case]
    old = study(SEX, before)
    with pytest.raises(ModelError) as caught:
        carried(tmp_path, old, some_weights(old), study(SEX, now))
    assert caught.value.code is Code.MODEL_COLUMN
    assert [problem.place for problem in caught.value.problems] == [now["name"]]


def outcome(kind: str, **changes: Any) -> Study:
    return small_study(kind, outcome=OUTCOMES[kind] | changes)


OTHER_HEADS = {
    "another kind of outcome": (outcome("survival"), outcome("binary")),
    "another outcome": (outcome("binary"), outcome("binary", column="reply")),
    "answers the other way": (outcome("binary"), outcome("binary", positive="no", negative="yes")),
    "another transform": (outcome("continuous"), outcome("continuous", transform="none")),
    "another unit": (outcome("continuous"), outcome("continuous", unit="g")),
    "another grid": (outcome("survival"), outcome("survival", grid=[100, 200, 300, 500])),
    "hidden layers": (small_study(), small_study(model={"kind": "mlp", "hidden": [4]})),
    "other hidden layers": (
        small_study(model={"kind": "mlp", "hidden": [5]}),
        small_study(model={"kind": "mlp", "hidden": [4]}),
    ),
}


@pytest.mark.parametrize("case", OTHER_HEADS)
def test_a_model_of_another_kind_or_outcome_is_refused(tmp_path: Path, case: str) -> None:
    old, new = OTHER_HEADS[case]
    with pytest.raises(ModelError) as caught:
        carried(tmp_path, old, some_weights(old), new)
    assert caught.value.code is Code.MODEL_SHAPE


def test_another_range_of_the_outcome_is_converted(tmp_path: Path) -> None:
    old, new = outcome("continuous"), outcome("continuous", range=[4, 81])
    weights, table = some_weights(old) / 4, patients()
    found = carried(tmp_path, old, weights, new)
    np.testing.assert_allclose(
        scores(new, found.weights, table), scores(old, weights, table), rtol=1e-12
    )


def test_a_file_that_does_not_hold_its_study_starts_that_study_only(tmp_path: Path) -> None:
    here, other = small_study(), small_study("continuous")
    path, weights = tmp_path / "earlier.safetensors", some_weights(small_study())
    save_vectors(path, {"weights": weights}, {"study": here.id, "study_hash": "0" * 64})
    np.testing.assert_array_equal(started(path, here).weights, weights)
    with pytest.raises(ModelError) as caught:
        started(path, other)
    assert caught.value.code is Code.MODEL_SHAPE


def test_weights_that_no_round_may_broadcast_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("name,coefficient\nintercept,0\nage,1e6\n")
    with pytest.raises(ModelError) as caught:
        started(tmp_path / "c.csv", small_study())
    assert caught.value.code is Code.MODEL_SHAPE
