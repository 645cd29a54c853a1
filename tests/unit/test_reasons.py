"""Reasons add up to the prediction, are what they say they are, and read as people speak."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from polyclinic_common.bundle.reasons import Reasons, Shares, contributions
from polyclinic_common.bundle.typical import typical_patient, typical_words
from polyclinic_common.bundle.value_words import feature_slices, values_in_words
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.models.head import build_network
from polyclinic_common.models.natural import outcome_scale
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector, cut, logits
from polyclinic_common.study import Study
from tests.kits.every_kind import CASES, CONTINUOUS, LINEAR, MLP, every_study
from tests.kits.other_studies import AGE, SEX, SNP, WEIGHT, patients, some_weights, study
from tests.kits.small import OUTCOMES


def encoded(of: Study, count: int = 40) -> Vector:
    table = patients(count)
    table["hla"] = (["*57:01/*07:02", "*07:02/*15:01", None, "*58:01/*58:01"] * count)[:count]
    table["arm"] = (["A", "B", None] * count)[:count]
    for name in ("p1", "p2", "p3", "p4"):
        table[name] = np.linspace(0.0, 1.0, count)
    return Encoding(of).encode(table, of.roster.sites[0]).x


@pytest.mark.parametrize(("kind", "outcome"), CASES)
@pytest.mark.parametrize("model", [LINEAR, MLP], ids=["linear", "mlp"])
def test_base_and_contributions_add_up_to_the_prediction(
    kind: str, outcome: dict[str, Any], model: dict[str, Any]
) -> None:
    of = every_study(kind, model, **outcome)
    weights, x = some_weights(of), encoded(of)
    reasons = contributions(of, weights, x)
    predicted = predict(of, Encoding(of), weights, x).value
    if kind == "binary":
        predicted = np.log(predicted / (1.0 - predicted))
    assert reasons.features == tuple(feature.name for feature in Encoding(of).features)
    assert reasons.outcome.prediction == pytest.approx(predicted, abs=1e-9)
    for shares in (reasons.score, reasons.outcome):
        assert shares.contributions.shape == (len(x), len(reasons.features))
        total = shares.base + shares.contributions.sum(axis=1)
        assert np.abs(total - shares.prediction).max() < 1e-6
    assert np.ptp(reasons.outcome.prediction) > 0.01


def test_contributions_of_a_linear_score_are_its_coefficients_times_the_differences() -> None:
    of = study(AGE, SEX, kind="continuous", outcome=OUTCOMES["continuous"] | {"transform": "none"})
    encoding = Encoding(of)
    weights = np.zeros(encoding.width)
    weights[0] = 0.3 * encoding.row_scale  # 30 years are 0.3 of half a range of 50 mg
    weights[encoding.columns.index("sex = male")] = 0.1 * encoding.row_scale
    x = encoding.encode(patients(1).assign(age=65.0, sex="male"), "site 0").x
    reasons = contributions(of, weights, x)
    assert reasons.score.contributions[0] == pytest.approx([0.5 * 0.3 * 50.0, 0.5 * 0.1 * 50.0])
    assert reasons.score.base == pytest.approx(50.0 + 0.5 * 0.1 * 50.0)


@pytest.mark.parametrize("outcome", CONTINUOUS[1:])
def test_shares_of_a_transformed_outcome_are_its_integrated_gradients(
    outcome: dict[str, Any],
) -> None:
    of = every_study("continuous", **outcome)
    weights, x = some_weights(of), encoded(of, 6)
    assert_integrated(of, weights, x, contributions(of, weights, x).outcome, own=True)


def test_shares_of_hidden_layers_are_integrated_gradients_of_the_score() -> None:
    of = every_study("continuous", MLP, **CONTINUOUS[0])
    weights, x = some_weights(of), encoded(of, 6)
    assert_integrated(of, weights, x, contributions(of, weights, x).score, own=False)


def assert_integrated(of: Study, weights: Vector, x: Vector, shares: Shares, *, own: bool) -> None:
    """Differences of the prediction itself, summed along the line by the midpoint rule."""
    encoding, small, steps = Encoding(of), 1e-5, 400
    network, start = build_network(of, encoding), typical_patient(Encoding(of))
    half, middle = outcome_scale(of.outcome)

    def value(rows: Vector) -> Vector:
        if own:
            return predict(of, encoding, weights, rows).value
        return half * logits(network, weights, rows)[:, 0] + middle

    for part, given in zip(feature_slices(encoding), shares.contributions.T, strict=True):
        total = np.zeros(len(x))
        step = np.zeros_like(x)
        step[:, part] = (x - start)[:, part]
        for place in (np.arange(steps) + 0.5) / steps:
            rows = start + place * (x - start)
            total += (value(rows + small * step) - value(rows - small * step)) / (2 * small * steps)
        assert given == pytest.approx(
            total, abs=2e-3
        )  # half a step where the line leaves the range


def test_beyond_the_range_shares_add_up_to_the_end_of_the_range() -> None:
    of = every_study("continuous", **CONTINUOUS[0])
    weights, x = 4.0 * some_weights(of), encoded(of)
    reasons = contributions(of, weights, x)
    ends = np.isin(reasons.outcome.prediction, of.outcome.range)  # type: ignore[union-attr]
    assert reasons.clamped.tolist() == ends.tolist()
    assert 5 < reasons.clamped.sum() < len(x)
    total = reasons.outcome.base + reasons.outcome.contributions.sum(axis=1)
    assert total == pytest.approx(reasons.outcome.prediction, abs=1e-9)


def test_features_that_cancel_each_other_have_their_shares() -> None:
    of = study(AGE, WEIGHT, kind="continuous")  # sqrt of 0 to 100 mg: from 0 to 10, middle 5
    encoding = Encoding(of)
    weights = np.array([0.4, 0.0, 0.4, 0.0, 0.0]) * encoding.row_scale
    x = encoding.encode(patients(1).assign(age=65.0, weight=65.0), "site 0").x
    reasons = contributions(of, weights, x)
    assert reasons.score.contributions[0] == pytest.approx([1.0, -1.0])
    assert reasons.outcome.base == pytest.approx(25.0)
    assert reasons.outcome.contributions[0] == pytest.approx([10.0, -10.0])


def test_a_patient_like_the_typical_one_has_no_reasons() -> None:
    of = every_study("continuous", MLP, **CONTINUOUS[2])
    start = typical_patient(Encoding(of))
    reasons = contributions(of, some_weights(of), start[None, :])
    assert not reasons.outcome.contributions.any()
    assert {reason.direction for reason in reasons.table()} == {"changes nothing"}
    assert {bar.length for bar in reasons.bars()} == {0.0}


def test_hidden_layers_as_steep_as_weights_may_be_still_add_up() -> None:
    of = every_study("binary", {"kind": "mlp", "hidden": [6]})
    weights, x = some_weights(of), encoded(of)
    layers = cut(build_network(of, Encoding(of)), weights)
    layers.hidden[0][0][:] *= 400.0
    assert np.abs(contributions(of, weights, x).remainder).max() <= 1e-6


def test_contributions_that_do_not_add_up_are_refused() -> None:
    of = every_study("binary", {"kind": "mlp", "hidden": [6, 6]})
    with pytest.raises(ModelError) as refused:
        contributions(of, 1e5 * some_weights(of), encoded(of))
    assert refused.value.code == Code.MODEL_SHAPE


def test_the_table_says_what_the_model_read_and_what_it_did() -> None:
    of = every_study("survival")
    encoding = Encoding(of)
    table = patients(2).assign(
        age=[61.0, 200.0], weight=[np.nan, 80.1], sex=["male", "?"], grade="II", snp=["A/A", "G/A"],
        cyp=["*3/*2", "*1/*2"], g1=1.0, g2=None, g3=2.0, hla=["*57:01/*07:02", "*01:01/*02:01"],
        arm=["A", "B"], p1=0.5, p2=0.5, p3=0.5, p4=None,
    )  # fmt: skip
    x = encoding.encode(table, "site 1").x
    assert values_in_words(encoding, x[0]) == (
        "61 years", "missing", "male", "II", "A/A", "*2/*3", "2 of 3 values", "other/*57:01",
        "3 of 4 values", "aspirin", "site 1",
    )  # fmt: skip
    assert values_in_words(encoding, x[1]) == (
        "80 years", "80.1 kg", "missing", "II", "G/A", "*1/*2", "2 of 3 values", "other/other",
        "3 of 4 values", "B", "site 1",
    )  # fmt: skip
    assert typical_words(encoding) == (
        "50 years", "90 kg", "all levels alike", "the middle level", "G/G", "*1/*1",
        "3 log2 throughout", "no listed allele", "0.5 log2 throughout", "all levels alike",
        "no hospital of the study",
    )  # fmt: skip
    reasons = contributions(of, some_weights(of), x)
    rows = reasons.table(1)
    assert sorted(row.feature for row in rows) == sorted(reasons.features)
    sizes = [abs(row.contribution) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert {row.unit for row in rows} == {"log odds of event = 1 in the interval"}
    for row, bar in zip(rows, reasons.bars(1), strict=True):
        verb = "raises" if row.contribution > 0 else "lowers"
        what = f"{verb} the risk" if row.contribution else "changes nothing"
        assert row.direction == what
        assert bar.length == pytest.approx(row.contribution / sizes[0])


@pytest.mark.parametrize(
    ("kind", "words"),
    [("binary", "raises the probability of response = yes"), ("continuous", "raises dose")],
)
def test_directions_name_what_is_predicted(kind: str, words: str) -> None:
    of = study(SNP, kind=kind)
    weights = np.array([1.0, 0.0, 0.0])
    x = Encoding(of).encode(patients(1).assign(snp="A/A"), "site 0").x
    reasons: Reasons = contributions(of, weights, x)
    assert [row.direction for row in reasons.table()] == [words]
    assert reasons.table()[0].typical == "G/G"


def test_reasons_need_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, polyclinic_common.bundle.reasons\n"
        "assert not {'torch', 'pandas', 'scipy', 'captum'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
