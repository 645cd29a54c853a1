"""A look at a released model: what is found, what is silent, and what a person reads of it."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_client.watch.chart import sum_chart
from polyclinic_client.watch.finding import Finding, Verdict, verdict_of
from polyclinic_client.watch.look import Look, take_look
from polyclinic_client.watch.look_log import LookEntry
from polyclinic_client.watch.page import look_page
from polyclinic_common.bundle.predictor import Predictor
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.models.head import initial_weights
from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Continuous, Survival
from tests.kits.other_studies import AGE, SEX, study
from tests.kits.small import OUTCOMES

WEIGHT: dict[str, Any] = AGE | {"name": "weight", "unit": "kg", "range": [30, 250]}
RELEASED = {"rmse": Reading(5.0, 4.8, 5.2), "mae": Reading(4.0, 3.9, 4.1)}
TODAY = dt.date(2026, 11, 29)


def predictor(of: Study) -> Predictor:
    weights = initial_weights(of, Encoding(of), 0)
    size = 0.2 if isinstance(of.outcome, Continuous) else 1.5  # far from the ends of its range
    return Predictor(of, weights + np.random.default_rng(1).normal(0, size, weights.size))


def people(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "patient": [f"P{seed}-{index}" for index in range(count)],
            "age": rng.uniform(30, 75, count).round(),
            "sex": rng.choice(["female", "male"], count),
            "weight": rng.normal(80, 13, count).round(1),
        }
    )


def watched(
    kind: str = "binary", count: int = 200, seed: int = 3, shift: float = 0.0
) -> tuple[Predictor, pd.DataFrame]:
    """Return a model, and patients whose outcomes are drawn from what it predicts, but for a shift.

    The shift is one of the logit, or in released standard errors of a number.
    """
    model, frame = predictor(study(AGE, SEX, WEIGHT, kind=kind)), people(count, seed)
    rng, told = np.random.default_rng(seed + 100), predictor_of(model, frame)
    outcome = model.study.outcome
    if isinstance(outcome, Survival):
        risk = 1 - told.survival / np.column_stack([np.ones(count), told.survival[:, :-1]])
        risk = shifted(risk, shift)
        happened = rng.random(risk.shape) < risk
        first = np.where(happened.any(axis=1), happened.argmax(axis=1), risk.shape[1] - 1)
        ends = np.array(outcome.grid)
        followed = rng.uniform(50, 700, count)
        event = happened.any(axis=1) & (ends[first] <= followed)
        time = np.where(event, ends[first], np.minimum(followed, ends[-1]))
        return model, frame.assign(days=time.round(), event=np.where(event, "1", "0"))
    if kind == "continuous":
        return model, frame.assign(dose=(told.value + 5 * rng.normal(shift, 1, count)).clip(0, 100))
    yes = rng.random(count) < shifted(told.value, shift)
    return model, frame.assign(response=np.where(yes, "yes", "no"))


def predictor_of(model: Predictor, frame: pd.DataFrame) -> Any:
    return model.predict(frame).prediction


def shifted(risk: np.ndarray, shift: float) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.log(risk / (1 - risk)) - shift)))


def look(model: Predictor, newer: pd.DataFrame, *earlier: LookEntry) -> Look:
    return take_look(people(300, 7), newer, model.predict(newer), RELEASED, earlier)


@pytest.mark.parametrize("kind", OUTCOMES)
def test_where_nothing_changed_all_is_fine(kind: str) -> None:
    found = look(*watched(kind))
    assert found.verdict == "fine"
    assert not found.findings
    assert found.performance is not None
    assert found.performance.ranking is not None


@pytest.mark.parametrize("kind", OUTCOMES)
@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_predictions_that_are_off_lead_to_a_refit(kind: str, shift: float) -> None:
    found = look(*watched(kind, shift=shift))
    assert found.verdict == "recalibrate"
    assert found.performance is not None
    assert found.performance.is_more == (shift > 0)
    (reason,) = [each for each in found.findings if each.about == "calibration"]
    assert "polyclinic model calibrate FILE TABLE --refit" in reason.then


@pytest.mark.parametrize("kind", OUTCOMES)
def test_below_twenty_outcomes_performance_is_silent_and_inputs_are_not(kind: str) -> None:
    model, frame = watched(kind, 40, shift=3.0)
    columns = {"binary": ["response"], "continuous": ["dose"], "survival": ["days", "event"]}[kind]
    frame.loc[19:, columns] = None
    frame["weight"] = (frame["weight"] / 0.45359237).round(1)
    found = look(model, frame)
    assert found.known.patients == 19
    assert found.performance is None
    assert found.verdict == "look"
    for column in columns:
        frame.loc[19, column] = frame.loc[18, column]
    assert look(model, frame).performance is not None


@pytest.mark.parametrize("kind", OUTCOMES)
def test_late_outcomes_are_counted_and_judge_as_if_the_patients_were_not_there(kind: str) -> None:
    model, frame = watched(kind, 120)
    columns = {"binary": ["response"], "continuous": ["dose"], "survival": ["days", "event"]}[kind]
    late = np.arange(120) % 3 == 0
    waiting = frame.copy()
    waiting.loc[late, columns] = None
    found, without = look(model, waiting), look(model, frame[~late].reset_index(drop=True))
    assert found.known.waiting == 40
    assert found.known.patients == 80
    assert found.performance is not None
    assert without.performance is not None
    assert found.performance.sums.more == pytest.approx(without.performance.sums.more)
    assert found.performance.observed == without.performance.observed
    assert any("not known yet" in note for note in found.notes)


def test_followed_for_a_short_time_is_not_free_of_the_event_later() -> None:
    """Patients seen for 150 of 400 days without the event count for the first interval alone."""
    model, frame = watched("survival", 60)
    found = look(model, frame.assign(days=150.0, event="0"))
    assert found.performance is not None
    survival = predictor_of(model, frame).survival
    assert found.performance.expected == pytest.approx((1 - survival[:, 0]).sum())
    assert len(found.performance.chances) == 60


@pytest.mark.parametrize("before", [0, 300])
def test_kilograms_turned_pounds_are_named_within_thirty_rows(before: int) -> None:
    model, frame = watched(count=before + 30)
    weight = frame["weight"].to_numpy().copy()
    weight[before:] = (weight[before:] / 0.45359237).round(1)
    found = look(model, frame.assign(weight=weight, response=None))
    assert found.verdict == "look"
    (unit,) = [each for each in found.findings if each.about == "weight"]
    assert "lb to kg" in unit.reason
    assert unit.spoils


def test_a_column_that_is_gone_and_words_that_nobody_knows_are_findings_not_refusals() -> None:
    model, frame = watched(count=60)
    found = look(model, frame.drop(columns="weight").assign(sex="M"))
    assert {each.about for each in found.findings} >= {"weight", "sex"}
    assert found.verdict == "look"
    assert found.known.unpredicted == 60
    odd = look(model, frame.assign(response=["maybe"] * 5 + frame["response"].tolist()[5:]))
    assert odd.known.unread == 5
    assert odd.known.waiting == 0
    assert any(each.about == "outcome" for each in odd.findings)


@pytest.mark.parametrize(
    ("kind", "gone"), [("binary", "response"), ("continuous", "dose"), ("survival", "days")]
)
def test_an_outcome_column_that_is_gone_is_not_an_outcome_that_is_late(
    kind: str, gone: str
) -> None:
    model, frame = watched(kind, 60)
    table = people(300, 7).assign(
        **{each: None for each in frame.columns if each not in people(1, 0)}
    )
    newer = frame.drop(columns=gone)
    found = take_look(table, newer, model.predict(newer), RELEASED)
    assert found.verdict == "look"
    (told,) = [each for each in found.findings if each.about == "outcome"]
    assert gone in told.reason
    assert not any("not known yet" in note for note in found.notes)
    late = frame.assign(**{gone: None})
    waiting = take_look(table, late, model.predict(late), RELEASED)
    assert waiting.verdict == "fine"
    assert any("not known yet" in note for note in waiting.notes)


def test_one_row_forty_times_is_not_forty_outcomes() -> None:
    model, frame = watched(count=60)
    unlucky = int(np.argmin(np.abs(predictor_of(model, frame).value - 0.3)))
    copies = frame.assign(response="no").loc[[unlucky] * 40].assign(response="yes")
    found = look(model, copies.reset_index(drop=True))
    assert found.known.patients == 0
    assert found.performance is None
    assert found.verdict == "look"
    (told,) = [each for each in found.findings if each.about == "patient"]
    assert told.reason.startswith("40 rows")


def test_repeated_patients_are_left_out_of_what_is_judged_and_the_others_are_judged() -> None:
    model, frame = watched(count=120)
    again = pd.concat([frame, frame.head(30)], ignore_index=True)
    again.loc[120:, "patient"] = " " + again.loc[120:, "patient"].str.lower()
    found, alone = look(model, again), look(model, frame.loc[30:].reset_index(drop=True))
    assert found.performance is not None
    assert alone.performance is not None
    assert found.performance.sums.more == pytest.approx(alone.performance.sums.more)
    assert found.rows == 150
    assert {each.rows for each in found.tests} == {120, 30}
    assert any(each.about == "patient" and "60 rows" in each.reason for each in found.findings)


def test_rows_without_a_patient_number_are_told_and_not_judged() -> None:
    model, frame = watched(count=100)
    frame.loc[:9, "patient"] = None
    found = look(model, frame)
    assert found.known.patients == 90
    assert any(each.about == "patient" and "10 rows" in each.reason for each in found.findings)
    nobody = look(model, frame.drop(columns="patient"))
    assert nobody.performance is None
    assert nobody.verdict == "look"


def test_a_patient_stands_under_the_chart_where_the_sums_reach_it() -> None:
    """Survival: a patient followed for long has more chances than another."""
    model, frame = watched("survival", 60)
    followed = np.where(np.arange(60) < 30, 400.0, 150.0)
    found = look(model, frame.assign(days=followed, event="0")).performance
    assert found is not None
    assert len(found.chances) == 30 * 3 + 30
    across = sum_chart(found).across
    assert [tick.text for tick in across] == ["0", "10", "20", "30", "60"]
    line = next(each for each in sum_chart(found).lines if each.name == "more limit")
    assert line.points.split()[-1].startswith(f"{across[-1].at:.1f},")
    assert across[3].at - across[0].at == pytest.approx(
        (across[-1].at - across[0].at) * found.chances.until(30) / len(found.chances)
    )


def test_more_missing_values_than_there_were_are_found() -> None:
    model, frame = watched(count=100)
    frame.loc[::3, "age"] = None
    (missing,) = [each for each in look(model, frame).findings if each.about == "age"]
    assert "missing" in missing.reason
    assert missing.spoils


def test_a_model_that_ranks_no_better_than_chance_is_withdrawn() -> None:
    model, frame = watched(count=400)
    answers = np.random.default_rng(2).permutation(frame["response"].to_numpy())
    found = look(model, frame.assign(response=answers))
    assert found.verdict == "withdraw"


def test_errors_larger_than_released_are_found() -> None:
    model, frame = watched("continuous", 150)
    told = predictor_of(model, frame).value
    noise = np.random.default_rng(5).normal(0, 12, 150)
    found = look(model, frame.assign(dose=(told + noise).clip(0, 100)))
    assert "error" in {each.about for each in found.findings}


def finding(verdict: Verdict, *, spoils: bool = False) -> Finding:
    return Finding("x", verdict, "r", "t", spoils)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ((), "fine"),
        ((finding("look"),), "look"),
        ((finding("look"), finding("recalibrate")), "recalibrate"),
        ((finding("look", spoils=True), finding("recalibrate")), "look"),
        ((finding("look", spoils=True), finding("withdraw")), "withdraw"),
    ],
)
def test_nobody_is_led_to_refit_to_values_that_are_wrong(
    findings: tuple[Finding, ...], verdict: Verdict
) -> None:
    assert verdict_of(findings) == verdict


def test_a_refit_is_not_proposed_before_wrong_values_are_mended() -> None:
    model, frame = watched(shift=1.5)
    found = look(model, frame.assign(weight=(frame["weight"] / 0.45359237).round(1)))
    assert found.verdict == "look"
    assert found.findings[0].spoils
    assert {each.verdict for each in found.findings} == {"look", "recalibrate"}
    assert not any("--refit" in each.then for each in found.findings)


def test_earlier_looks_are_remembered_and_a_shorter_table_is_told() -> None:
    model, frame = watched()
    earlier = [LookEntry(day=TODAY, rows=n, known=n, verdict="fine") for n in (10, 50, 120, 900)]
    found = look(model, frame, *earlier)
    assert found.performance is not None
    assert [each.chances for each in found.performance.limits] == [50, 120, 200]
    assert any("900" in note for note in found.notes)


def test_the_look_is_plain_data() -> None:
    told = look(*watched(shift=1.0)).as_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told


@pytest.mark.parametrize("kind", OUTCOMES)
@pytest.mark.parametrize("count", [10, 60])
def test_the_page_opens_offline_without_script_and_every_chart_has_a_table(
    kind: str, count: int
) -> None:
    model, frame = watched(kind, count)
    page = look_page(look(model, frame), "<b>.polyclinic", TODAY)
    assert "<b>.polyclinic" not in page
    assert "&lt;b&gt;.polyclinic" in page
    assert not re.search(r"<script|https?://|src=|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    for chart in page.split("<svg")[1:]:
        assert "</svg>" in chart
        assert "<table" in chart
    assert page.count("<svg") == (2 if count == 60 else 1)


def test_what_stands_in_a_cell_is_escaped_on_the_page() -> None:
    model, frame = watched(count=60)
    found = look(model, frame.assign(sex="<img>"))
    assert "<img>" not in look_page(found, "x.polyclinic", TODAY)
