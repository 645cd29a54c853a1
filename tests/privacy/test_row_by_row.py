"""What is computed of a patient is a function of the patient's row: not of place, others, height.

A server may choose the weights: here they make the last bits of a score decide on whole clips
(indicators that cancel, residuals that are rounding error alone). Removing patients must move every
sum by exactly what those patients add alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from polyclinic_client.compute.calibration_sums import SummedCalibration
from polyclinic_client.compute.gradients import OpacusRows
from polyclinic_client.compute.metric_sums import SummedMetrics
from polyclinic_client.compute.patients import Patients
from polyclinic_client.compute.regression_sums import SummedStatistics
from polyclinic_client.compute.row_check import check_rows
from polyclinic_client.compute.row_network import RowLinear, RowNetwork
from polyclinic_client.compute.training import OpacusGradients
from polyclinic_common import rowwise
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.evaluation.layout import make_layout
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.models.head import build_network, initial_weights
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector, cut, weight_count
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.study import Study, parse_study

Rows = NDArray[np.int64]
PATIENTS = 41
FAR = 1e6  # a thousand times what a site accepts
AGE = {"name": "age", "kind": "numeric", "unit": "years", "range": [20, 80], "source": "test"}
OUTCOMES: dict[str, dict[str, Any]] = {
    "continuous": {"column": "dose", "unit": "mg", "range": [1, 100], "transform": "log"},
    "binary": {"column": "response", "positive": "yes", "negative": "no"},
    "survival": {
        "time": "days",
        "event": "event",
        "occurred": "1",
        "censored": "0",
        "unit": "days",
        "grid": [100, 200, 300, 400, 500],
    },
}
METRICS = {"continuous": ["mae", "within_20"], "binary": ["auc", "brier"], "survival": ["c_index"]}


def category(name: str, levels: int) -> dict[str, Any]:
    words = [f"w{level}" for level in range(levels)]
    return {"name": name, "kind": "categorical", "levels": words, "source": "test"}


def study_of(kind: str, widths: tuple[int, ...] = (2, 2), hidden: tuple[int, ...] = ()) -> Study:
    """A study with age and a category of every width: 2 + sum of (width + 1) columns."""
    features = [AGE, *(category(f"c{index}", width) for index, width in enumerate(widths))]
    model = {"kind": "mlp", "hidden": list(hidden)} if hidden else {}
    start = {"start": "statistics"} if kind == "continuous" and not hidden else {}
    return parse_study(
        {
            "polyclinic": 1,
            "id": "rows",
            "version": "1.0.0",
            "title": "rows",
            "purpose": "test",
            "expires": "2099-12-31",
            "roster": {"sites": ["a", "b", "c"]},
            "cohort": {"patient_id": "patient", "site": "hospital", "features": features},
            "outcome": {"kind": kind, "source": "test"} | OUTCOMES[kind],
            "model": model,
            "training": {"rounds": 3, "calibration": {"steps": 2}} | start,
            "evaluation": {"private": {"metrics": METRICS[kind], "by_site": True}},
        },
        "rows.toml",
    )


def people(study: Study, size: int = PATIENTS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "patient": [f"P{number}" for number in range(size)],
        "age": rng.uniform(20, 80, size).round(1),
        "dose": rng.uniform(1, 100, size),
        "response": rng.choice(["yes", "no"], size),
        "days": rng.uniform(1, 600, size).round(1),
        "event": rng.choice(["0", "1"], size),
    }
    for feature in study.cohort.features:
        if feature.kind == "categorical":
            columns[feature.name] = rng.choice(feature.levels, size)
    return pd.DataFrame(columns)


def hostile_weights(study: Study, seed: int) -> Vector:
    """Groups of indicators that cancel, and an age far below the last bit of either."""
    encoding, rng = Encoding(study), np.random.default_rng(seed)
    network = build_network(study, encoding)
    weights = np.full(weight_count(network), FAR)
    layers = cut(network, weights)
    first = layers.hidden[0][0] if layers.hidden else layers.last[None, :]
    scale = rng.uniform(0.3, 1.0, (len(first), 1)) * FAR
    signs = [(-1.0) ** (name.startswith("c1")) for name in encoding.columns[:-1]]
    first[:] = scale * np.array(signs)
    first[:, encoding.columns.index("age")] = rng.normal(0, 1e-13, len(first))
    for _, bias in layers.hidden:
        bias[:] = rng.normal(0, 1e-3, bias.size)
    layers.baseline[:] = rng.normal(0, 1, layers.baseline.size)
    return weights


def starting_weights(study: Study, seed: int) -> Vector:
    start = initial_weights(study, Encoding(study), seed)
    return start + np.random.default_rng(seed).normal(0, 0.3, start.size)


def keep(*without: int) -> Rows:
    return np.array([row for row in range(PATIENTS) if row not in without], dtype=np.int64)


SUBSETS: dict[str, Rows] = {
    "without the first": keep(0),
    "without the first three": keep(0, 1, 2),
    "every other": np.arange(0, PATIENTS, 2),
    "the last alone": np.array([PATIENTS - 1]),
    "backwards": np.arange(PATIENTS)[::-1],
    "shuffled": np.random.default_rng(7).permutation(PATIENTS),
}


def assert_rows_alone_decide(
    total: Callable[[pd.DataFrame], Rows], table: pd.DataFrame, bound: float
) -> None:
    """Every subset, in every order, sums to what its patients add one by one; each within bound."""
    alone = np.stack([total(table.iloc[[row]]) for row in range(len(table))])
    assert (np.sqrt((alone.astype(np.float64) ** 2).sum(axis=1)) <= bound).all()
    assert np.array_equal(total(table), alone.sum(axis=0))
    for name, rows in SUBSETS.items():
        assert np.array_equal(total(table.iloc[rows]), alone[rows].sum(axis=0)), name


@pytest.mark.parametrize("made", [hostile_weights, starting_weights])
@pytest.mark.parametrize("hidden", [(), (16,), (16, 7)])
@pytest.mark.parametrize("widths", [(2, 2), (2, 3)])
@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_removing_patients_moves_the_gradient_sum_by_their_own_rows(
    kind: str, widths: tuple[int, ...], hidden: tuple[int, ...], made: Any
) -> None:
    """From the table on: encoding, forward and backward pass, clip and rounding."""
    study = study_of(kind, widths, hidden)
    encoding, weights = Encoding(study), made(study, 3)
    engine = OpacusGradients(study, encoding)
    plan = Schedule.of(study, PATIENTS, "rows").secure_sums["gradient"]
    sums = engine.integer_sums(plan)

    def total(frame: pd.DataFrame) -> Rows:
        return sums.integer_sum(weights, engine.patients(encoding.encode(frame, "a")).blocks())

    assert_rows_alone_decide(total, people(study), plan.sensitivity)


@pytest.mark.parametrize("hidden", [(), (16,), (7,), (16, 16), (5, 3)])
@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_no_bit_of_a_patients_gradient_depends_on_place_others_or_height(
    kind: str, hidden: tuple[int, ...]
) -> None:
    """Before clipping and rounding, where every last bit shows."""
    study = study_of(kind, (2, 2), hidden)
    encoding, weights = Encoding(study), hostile_weights(study, 5)
    cohort = encoding.encode(people(study), "a")
    rows = OpacusRows(RowNetwork(build_network(study, encoding)), study.loss)

    def gradients(some: Rows, height: int) -> list[bytes]:
        blocks = Patients(cohort.take(some), height).blocks()
        found = np.concatenate([rows.patient_gradients(weights, block) for block in blocks])
        return [row.tobytes() for row in found[: len(some)]]

    alone = [gradients(np.array([row]), 1)[0] for row in range(PATIENTS)]
    for height in (3, 8, 13, 41, 256):
        for name, some in SUBSETS.items():
            assert gradients(some, height) == [alone[row] for row in some], (name, height)


@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_a_sampled_step_is_the_sum_of_its_patients_own_rows(kind: str) -> None:
    """The sum before noise, in float64: whole grid units, so that no order of adding matters."""
    study = study_of(kind, (2, 2), (7,))
    engine, weights = OpacusGradients(study, Encoding(study)), hostile_weights(study, 1)
    patients = engine.patients(Encoding(study).encode(people(study), "a"), batch=16)
    clipped = engine.clipped()

    def total(rows: Rows) -> Vector:
        return clipped.gradient_sum(weights, patients.blocks(rows))

    alone = np.stack([total(np.array([row])) for row in range(PATIENTS)])
    assert (np.linalg.norm(alone, axis=1) <= study.clip).all()
    for rows in SUBSETS.values():
        units = alone[rows] / clipped.grid
        assert np.array_equal(units, np.rint(units))
        assert np.array_equal(total(rows), units.sum(axis=0) * clipped.grid)


@pytest.mark.parametrize("hidden", [(), (7,), (16, 16)])
@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_removing_patients_moves_metric_sums_by_their_own_rows(
    kind: str, hidden: tuple[int, ...]
) -> None:
    study = study_of(kind, (2, 3), hidden)
    encoding, weights = Encoding(study), hostile_weights(study, 2)
    plan = Schedule.of(study, PATIENTS, "rows").secure_sums["metrics"]
    sums = SummedMetrics(make_layout(study), encoding, plan.clip, plan.grid)

    def total(frame: pd.DataFrame) -> Rows:
        cohort = held_out_cohort(encoding, frame, "a")
        return sums.integer_sum(weights, Patients(cohort).blocks())

    assert_rows_alone_decide(total, people(study), plan.sensitivity)


@pytest.mark.parametrize("made", [hostile_weights, starting_weights])
@pytest.mark.parametrize("hidden", [(), (7,), (16, 16)])
@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_removing_patients_moves_calibration_sums_by_their_own_rows(
    kind: str, hidden: tuple[int, ...], made: Any
) -> None:
    study = study_of(kind, (2, 3), hidden)
    encoding, weights = Encoding(study), made(study, 6)
    plan = Schedule.of(study, PATIENTS, "rows").secure_sums["calibration"]
    sums = SummedCalibration(encoding, plan.clip, plan.grid)

    def total(frame: pd.DataFrame) -> Rows:
        return sums.integer_sum(weights, Patients(encoding.encode(frame, "a")).blocks())

    assert_rows_alone_decide(total, people(study), plan.sensitivity)


def test_removing_patients_moves_statistics_by_their_own_rows() -> None:
    study = study_of("continuous")
    encoding, plan = Encoding(study), Schedule.of(study, PATIENTS, "rows").secure_sums["statistics"]
    sums, start = SummedStatistics(plan.clip, plan.grid), np.zeros(1)

    def total(frame: pd.DataFrame) -> Rows:
        return sums.integer_sum(start, Patients(encoding.encode(frame, "a")).blocks())

    assert_rows_alone_decide(total, people(study), plan.sensitivity)


@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_what_a_model_says_of_a_patient_depends_on_the_patient_alone(kind: str) -> None:
    """So a vote compares the same predictions, whoever else is there."""
    study = study_of(kind, (2, 2), (7,))
    encoding, table, weights = Encoding(study), people(study), hostile_weights(study, 4)

    def said(frame: pd.DataFrame) -> bytes:
        x = encoding.encode(frame, "a").x
        return predict(study, encoding, weights, x).value.tobytes()

    alone = [said(table.iloc[[row]]) for row in range(PATIENTS)]
    for rows in SUBSETS.values():
        assert said(table.iloc[rows]) == b"".join(alone[row] for row in rows)


@pytest.mark.parametrize("hidden", [(), (5, 3)])
@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_no_weights_make_subnormal_numbers_which_some_processors_take_long_for(
    kind: str, hidden: tuple[int, ...]
) -> None:
    """Weights down to the smallest number there is, and logits where an exponential vanishes."""
    study, rng = study_of(kind, (2, 2), hidden), np.random.default_rng(0)
    encoding = Encoding(study)
    network = build_network(study, encoding)
    rows, cohort = OpacusRows(RowNetwork(network), study.loss), encoding.encode(people(study), "a")
    for lowest in (-323.0, -160.0, -20.0, 0.0):
        size = 10.0 ** rng.uniform(lowest, 3.0, weight_count(network))
        weights = size * rng.choice([-1.0, 1.0], size.size)
        (block,) = Patients(cohort).blocks()
        found = np.abs(rows.patient_gradients(weights, block))
        assert not ((found > 0.0) & (found < np.finfo(float).tiny)).any()


@pytest.mark.slow
def test_a_panel_is_projected_row_by_row() -> None:
    columns = [f"g{number}" for number in range(301)]
    panel = {
        "name": "genes",
        "kind": "panel",
        "columns": columns,
        "unit": "1",
        "range": [-1, 1],
        "source": "test",
        "projection": {"width": 7, "seed": 1},
    }
    document = study_of("binary").model_dump(mode="json", exclude_none=True)
    document["cohort"]["features"] = [panel]
    study = parse_study(document, "panel.toml")
    rng, encoding = np.random.default_rng(0), Encoding(study)
    table = people(study).join(pd.DataFrame(rng.uniform(-1, 1, (PATIENTS, 301)), columns=columns))
    alone = [encoding.encode(table.iloc[[row]], "a").x.tobytes() for row in range(PATIENTS)]
    for rows in SUBSETS.values():
        whole = np.ascontiguousarray(encoding.encode(table.iloc[rows], "a").x).tobytes()
        assert whole == b"".join(alone[row] for row in rows)


def test_a_machine_on_which_a_rows_place_matters_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One unit in the last place, in the second row of every block: nothing is computed."""
    plain = RowLinear.forward

    def by_place(layer: RowLinear, rows: Any) -> Any:
        found = plain(layer, rows)
        found.data[1:2] *= 1.0 + 2.0**-52
        return found

    check_rows.cache_clear()
    study = study_of("binary")
    OpacusGradients(study, Encoding(study)).clipped()
    check_rows.cache_clear()
    monkeypatch.setattr(RowLinear, "forward", by_place)
    with pytest.raises(PrivacyError) as caught:
        OpacusGradients(study, Encoding(study)).clipped()
    assert caught.value.code == Code.PRIVACY_PLACE
    check_rows.cache_clear()


def test_a_machine_whose_exponential_has_lanes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries compute whole vectors by one routine and what is left over by another."""

    def by_lane(values: rowwise.Floats) -> rowwise.Floats:
        found = np.exp(values)
        whole = len(found) // 4 * 4
        found[:whole] *= 1.0 + 2.0**-52
        return found

    monkeypatch.setattr("polyclinic_client.compute.row_check.FUNCTIONS", (by_lane,))
    check_rows.cache_clear()
    with pytest.raises(PrivacyError) as caught:
        check_rows()
    assert caught.value.code == Code.PRIVACY_PLACE
    check_rows.cache_clear()
