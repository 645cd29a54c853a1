"""What a hospital's own patients say of a model: right, in order, and nothing of them kept."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from polyclinic_client.folder.layout import STUDIES
from polyclinic_client.study_book.book import TABLE
from polyclinic_client.study_book.frozen_table import freeze
from polyclinic_common.bundle.calibration_words import refit_words, rows_of, titles_of
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.interval import Interval
from polyclinic_common.bundle.intervals import (
    approximate,
    intervals_for,
    survival_intervals_for,
)
from polyclinic_common.bundle.local_calibration import (
    Bins,
    Curves,
    LocalCalibration,
    Width,
    keep,
    kept_at,
    local_calibration,
    read_calibration,
)
from polyclinic_common.bundle.local_patients import LocalPatients, Wanted, calibrated
from polyclinic_common.bundle.predictor import Predicted, Predictor
from polyclinic_common.bundle.refit import Refit, refit
from polyclinic_common.bundle.untrained import FROZEN, untrained
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.holdout import held_out
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.reading import BinReading, GroupReading, RoundReadings
from polyclinic_common.evaluation.statistic import survival_histogram
from polyclinic_common.evaluation.survival_reading import RiskReading, TimeReading
from polyclinic_common.models.predict import Prediction, predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.rowwise import expit
from polyclinic_common.study import Study
from polyclinic_simulations.bench.trusted import Trusted
from tests.kits.small import small_study, small_table, study_data

Floats = NDArray[np.float64]
KINDS = ("binary", "continuous", "survival")
DIGEST, OTHER = "ab" * 32, "cd" * 32
TODAY = dt.date(2026, 11, 29)
NOTHING = Evaluation()
STUDIES_OF = {kind: small_study(kind, training={"rounds": 60}) for kind in KINDS}


def trained(study: Study) -> Vector:
    cohort = Encoding(study).encode(small_table(600, seed=1), "site 0")
    return Trusted(study, None, 600).trained(cohort, 0)


MODELS = {kind: trained(study) for kind, study in STUDIES_OF.items()}


def local_patients(kind: str, frame: pd.DataFrame) -> LocalPatients:
    predictor = Predictor(STUDIES_OF[kind], MODELS[kind])
    return LocalPatients.of(predictor, frame, np.ones(len(frame), dtype=np.bool_))


def on_roots(doses: Floats) -> Floats:
    """Return doses on the scale of the model: roots of 0 to 100 become -1 to 1."""
    return np.asarray(np.sqrt(doses) / 5.0 - 1.0)


def found(
    kind: str, frame: pd.DataFrame, weights: Vector | None = None, **wanted: Any
) -> LocalCalibration:
    predictor = Predictor(STUDIES_OF[kind], MODELS[kind] if weights is None else weights)
    patients = local_patients(kind, frame)
    return calibrated(DIGEST, predictor, patients, Wanted(**wanted), held_out=0, made=TODAY)


def predicted(kind: str, frame: pd.DataFrame) -> Predicted:
    return Predictor(STUDIES_OF[kind], MODELS[kind]).predict(frame)


# Who was not trained on


def frozen(site: Path, study: Study, frame: pd.DataFrame) -> None:
    path = site / FROZEN.format(study.hash())
    path.parent.mkdir(parents=True)
    freeze(study, frame).to_parquet(path, index=False)


def test_the_frozen_table_is_looked_for_where_the_client_puts_it() -> None:
    assert FROZEN.format("HASH") == f"{STUDIES}/HASH/{TABLE}"


def test_of_the_studys_own_table_only_who_is_held_out_counts(tmp_path: Path) -> None:
    study, old = STUDIES_OF["binary"], small_table(100)
    frozen(tmp_path, study, old)
    out = held_out(study, old)
    new = small_table(30, seed=2).assign(patient=[f"N{index}" for index in range(30)])
    both = pd.concat([new, old], ignore_index=True)
    seen = untrained(study, study.hash(), both, tmp_path)
    assert 0 < out.sum() < 100
    assert seen.rows.tolist() == [True] * 30 + out.tolist()
    assert (seen.trained, seen.held_out, seen.looked) == (100 - out.sum(), out.sum(), True)


def test_a_patient_who_was_trained_on_is_known_by_any_spelling_of_the_number(
    tmp_path: Path,
) -> None:
    """Held out or not is what the frozen spelling says: training read that one."""
    study, old = STUDIES_OF["binary"], small_table(100)
    frozen(tmp_path, study, old)
    other = old.assign(patient=[f" {number.lower()} " for number in old["patient"]])
    seen = untrained(study, study.hash(), other, tmp_path)
    assert seen.rows.tolist() == held_out(study, old).tolist()


def test_without_a_folder_or_a_table_everybody_counts_and_it_is_said(tmp_path: Path) -> None:
    study, old = STUDIES_OF["binary"], small_table(50)
    for site in (None, tmp_path):
        seen = untrained(study, study.hash(), old, site)
        assert seen.rows.all()
        assert not seen.looked


def test_a_frozen_table_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    study = STUDIES_OF["binary"]
    frozen(tmp_path, study, small_table(50))
    (tmp_path / FROZEN.format(study.hash())).write_bytes(b"PAR1 no more")
    with pytest.raises(BundleError) as caught:
        untrained(study, study.hash(), small_table(50), tmp_path)
    assert caught.value.code == Code.CALIBRATION_DAMAGED


# Level and slope


def moved(kind: str, count: int, shift: float, slope: float, seed: int = 3) -> tuple[Any, ...]:
    """Return patients whose outcomes follow the model after a level and a slope."""
    study, encoding = STUDIES_OF[kind], Encoding(STUDIES_OF[kind])
    rng, frame = np.random.default_rng((seed, 1)), small_table(count, seed=seed)
    cohort = encoding.encode(frame, "site 0")
    truth = refitted_by_hand(kind, cohort.x, shift, slope)
    if kind == "continuous":
        y, mask = truth + rng.normal(0, 0.05, truth.shape), np.ones_like(truth)
    elif kind == "binary":
        y = (rng.random(truth.shape) < expit(truth)).astype(float)
        mask = np.ones_like(y)
    else:
        happened = rng.random(truth.shape) < expit(truth)
        first = np.where(happened.any(axis=1), happened.argmax(axis=1), truth.shape[1])
        k = np.arange(truth.shape[1])
        y = (k == first[:, None]).astype(float)
        mask = (k <= first[:, None]).astype(float)
    return study, MODELS[kind], cohort.x, y, mask


def refitted_by_hand(kind: str, x: Floats, shift: float, slope: float) -> Floats:
    """Return logits a + b s + l by the definition: the intercept column apart from all others."""
    study, weights = STUDIES_OF[kind], MODELS[kind]
    outputs = Encoding(study).outputs
    score = x[:, :-1] @ weights[:-outputs]
    return np.asarray(shift + slope * score[:, None] + x[:, -1:] * weights[-outputs:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shift", "slope"), [(0.8, 1.6), (-0.5, 0.6)])
def test_many_patients_give_their_level_and_slope(kind: str, shift: float, slope: float) -> None:
    fitted = refit(*moved(kind, 20_000, shift, slope))
    assert fitted.changed == "level and slope"
    assert (fitted.shift, fitted.slope) == pytest.approx((shift, slope), abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_is_the_maximum_of_the_likelihood(kind: str) -> None:
    """There residuals add up to zero, as they stand and times the score."""
    study, weights, x, y, mask = moved(kind, 400, 0.8, 1.8)
    fitted = refit(study, weights, x, y, mask)
    linear = refitted_by_hand(kind, x, fitted.shift, fitted.slope)
    mean = linear if kind == "continuous" else expit(linear)
    residual = (mask * (y - mean)).sum(axis=1)
    score = x[:, :-1] @ weights[: -linear.shape[1]]
    assert residual.sum() == pytest.approx(0.0, abs=1e-6)
    assert residual @ score == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refitted_model_says_what_level_and_slope_say(kind: str) -> None:
    study, weights, x, y, mask = moved(kind, 400, 0.8, 1.8)
    fitted = refit(study, weights, x, y, mask)
    said = predict(study, Encoding(study), fitted.applied_to(study, weights), x)
    linear = refitted_by_hand(kind, x, fitted.shift, fitted.slope)
    if kind == "continuous":
        assert on_roots(said.value) == pytest.approx(np.clip(linear[:, 0], -1, 1), abs=1e-9)
    elif kind == "binary":
        assert said.value == pytest.approx(expit(linear[:, 0]))
    else:
        assert said.value == pytest.approx(linear.mean(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_level_is_changed_where_the_slope_is_right(kind: str) -> None:
    """And nothing where both are; in four of 20 hospitals at most chance says otherwise."""
    level = [refit(*moved(kind, 300, 0.9, 1.0, seed)).changed for seed in range(20)]
    right = [refit(*moved(kind, 300, 0.0, 1.0, seed)).changed for seed in range(20)]
    assert level.count("level") >= 16
    assert right.count("nothing") >= 16
    assert "nothing" not in level


@pytest.mark.parametrize("case", ["few", "one answer", "one score", "wrong way", "separated"])
def test_what_cannot_be_fitted_is_refused_with_the_reason(case: str) -> None:
    study, weights, x, y, mask = moved("binary", 200, 0.0, 1.0)
    score = x[:, :-1] @ weights[:-1]
    if case == "few":
        x, y, mask = x[:19], y[:19], mask[:19]
    elif case == "one answer":
        y = np.where(np.arange(200)[:, None] < 9, 1.0, 0.0)
    elif case == "one score":
        x = np.tile(x[:1], (200, 1))
    elif case == "wrong way":
        y = 1.0 - y
    else:
        y = (score > np.median(score)).astype(float)[:, None]
    with pytest.raises(BundleError) as caught:
        refit(study, weights, x, y, mask)
    assert caught.value.code == Code.REFIT_IMPOSSIBLE


# Intervals of a hospital's own patients


@pytest.mark.parametrize(
    ("kind", "alpha", "least"),
    [("continuous", 0.1, 9), ("continuous", 0.05, 19), ("binary", 0.1, 20), ("survival", 0.02, 49)],
)
def test_too_few_patients_are_refused_and_one_more_is_not(
    kind: str, alpha: float, least: int
) -> None:
    with pytest.raises(BundleError) as caught:
        found(kind, small_table(least - 1), alpha=alpha)
    assert caught.value.code == Code.CALIBRATION_TOO_FEW
    assert str(least) in str(caught.value)
    assert found(kind, small_table(least), alpha=alpha).patients == least


def test_a_patient_without_a_known_outcome_does_not_count() -> None:
    unknown = [101.0, *[np.nan] * 9]  # 101 lies outside the range
    frame = small_table(50)
    frame["dose"] = [*unknown, *frame["dose"].iloc[10:]]
    assert found("continuous", frame).patients == 40


def test_numbers_have_the_conformal_width_of_the_patients_here() -> None:
    frame = small_table(200, seed=4)
    said = predicted("continuous", frame).prediction.value
    local = found("continuous", frame)
    by_hand = np.sort(np.abs(np.sqrt(frame["dose"]) - np.sqrt(said)) / 5.0)[181 - 1]
    assert isinstance(local.found, Width)
    assert local.found.half_width == pytest.approx(by_hand)  # roots of 0 to 100 become -1 to 1
    made = intervals_for(predicted("continuous", frame), NOTHING, local)
    inside = [
        each is not None and each.low <= dose <= each.high
        for each, dose in zip(made, frame["dose"], strict=True)
    ]
    assert sum(inside) == 181
    assert made[0] is not None
    assert made[0].words.startswith(f"{made[0].low:.3g} to {made[0].high:.3g} mg: of 100 patients")


def test_probabilities_have_the_share_of_patients_like_this_one() -> None:
    frame = small_table(200, seed=4)
    said = predicted("binary", frame).prediction.value
    local = found("binary", frame)
    assert isinstance(local.found, Bins)
    assert local.found.patients == pytest.approx((40,) * 5, abs=2)  # of equal ones, all together
    made = intervals_for(predicted("binary", frame), NOTHING, local)
    lowest = np.argsort(said)[: local.found.patients[0]]
    yes = int((frame["response"].iloc[lowest] == "yes").sum())
    first = made[int(lowest[0])]
    assert first is not None
    assert f"Of {len(lowest)} patients here with a predicted probability of 0% to" in first.words
    assert f"{yes} had the outcome" in first.words
    assert first.low <= yes / len(lowest) <= first.high
    assert first.level == pytest.approx(0.9)


def test_venn_abers_gives_two_probabilities_and_no_level() -> None:
    frame = small_table(200, seed=4)
    made = intervals_for(
        predicted("binary", frame), NOTHING, found("binary", frame, method="venn-abers")
    )
    assert all(each is not None and 0.0 <= each.low <= each.high <= 1.0 for each in made)
    assert {each.how for each in made if each} == {"venn-abers"}
    assert {each.level for each in made if each} == {None}
    assert all("no interval at a stated level" in each.words for each in made if each)


def test_survival_has_what_was_observed_at_every_time_and_no_interval_for_one_person() -> None:
    frame = small_table(200, seed=4)
    local, said = found("survival", frame), predicted("survival", frame)
    assert isinstance(local.found, Curves)
    assert local.found.patients == pytest.approx((40,) * 5, abs=2)
    assert intervals_for(said, NOTHING, local) == (None,) * 200
    made = survival_intervals_for(said, NOTHING, local)
    assert [len(times) for times in made] == [4] * 200
    first = np.argsort(said.prediction.value)[: local.found.patients[0]]
    free = float((frame["days"].iloc[first] > 100).mean())  # nobody is censored before 600 days
    low_risk = made[int(first[0])][0]
    assert low_risk is not None
    assert low_risk.low <= free <= low_risk.high
    ends = f"{low_risk.low:.0%} to {low_risk.high:.0%}"
    assert f"{free:.0%} ({ends}) were without the event at 100 days" in low_risk.words


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calibrated_here", [True, False])
def test_who_has_no_number_has_no_interval(kind: str, calibrated_here: bool) -> None:
    frame = small_table(60, seed=4)
    said = predicted(kind, frame)
    given = np.arange(60) != 7
    value = np.where(given, said.prediction.value, np.nan)
    said = replace(said, given=given, prediction=replace(said.prediction, value=value))
    local = found(kind, frame) if calibrated_here else None
    if kind == "survival":
        made = survival_intervals_for(said, released(kind), local)
        assert made[7] == (None,) * 4
        assert any(made[8])
    else:
        one = intervals_for(said, released(kind), local)
        assert one[7] is None
        assert one[8] is not None


@pytest.mark.slow
def test_refitted_intervals_cover_patients_who_fitted_neither() -> None:
    """Hospitals of 20 patients with a level of their own, 400 of them: 10 fit and 10 bound.

    Without the halves level and slope would fit the patients who bound, and 90 % would be missed.
    The standard error of the share is 1.5 points.
    """
    study, covered = STUDIES_OF["continuous"], []
    for seed in range(400):
        _, _, x, y, mask = moved("continuous", 41, 0.5, 0.7, seed)
        value = 25.0 * (np.clip(y[:, 0], -1, 1) + 1.0) ** 2
        numbers = tuple(f"{seed} {index}" for index in range(41))
        everybody = LocalPatients(numbers, x, y, mask, value, np.ones(41))
        local = calibrated(
            DIGEST,
            Predictor(study, MODELS["continuous"]),
            everybody.take(np.arange(40)),
            Wanted(refit=True),
            held_out=0,
            made=TODAY,
        )
        weights = local.applied_to(study, MODELS["continuous"])
        said = predict(study, Encoding(study), weights, x[40:])
        new = Predicted(study, x[40:], said, ((),), np.array([True]))
        (one,) = intervals_for(new, NOTHING, local)
        assert one is not None
        covered.append(one.low - 1e-9 <= value[40] <= one.high + 1e-9)
    assert local.patients == 20
    assert 0.87 <= np.mean(covered) <= 0.99


def test_which_half_a_patient_is_in_does_not_depend_on_the_order_of_rows() -> None:
    patients = local_patients("continuous", small_table(51))
    order = np.random.default_rng(0).permutation(51)
    fitting, judging = patients.halves()
    again, _ = patients.take(order).halves()
    assert set(fitting.numbers) == set(again.numbers)
    assert not set(fitting.numbers) & set(judging.numbers)
    assert (len(fitting), len(judging)) == (25, 26)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_recalibrated_here_says_so(kind: str) -> None:
    study, weights = STUDIES_OF[kind], MODELS[kind]
    off = weights.copy()
    off[-Encoding(study).outputs :] += 0.9 / Encoding(study).intercept
    frame = small_table(300, seed=4)
    local = found(kind, frame, weights=off, refit=True)
    assert local.recalibrated
    assert local.refit is not None
    mended = local.applied_to(study, off)
    said = Predictor(study, mended).predict(frame)
    one = (
        survival_intervals_for(said, NOTHING, local)[0][0]
        if kind == "survival"
        else intervals_for(said, NOTHING, local)[0]
    )
    assert one is not None
    assert "recalibrated here" in one.words
    assert "Recalibrated here" in refit_words(local.refit)
    before, after = (
        abs(float(np.mean(predict(study, Encoding(study), w, said.x).value - goal(kind, frame))))
        for w in (off, mended)
    )
    assert after < before / 4 or kind == "survival"


def goal(kind: str, frame: pd.DataFrame) -> Floats:
    if kind == "continuous":
        return frame["dose"].to_numpy(dtype=np.float64)
    return np.where(frame["response"] == "yes", 1.0, 0.0)


def test_a_model_that_is_right_stays_as_it_was_released() -> None:
    study, weights = STUDIES_OF["binary"], MODELS["binary"]
    _, _, x, y, mask = moved("binary", 300, 0.0, 1.0)
    patients = LocalPatients(tuple(map(str, range(300))), x, y, mask, y[:, 0], np.ones(300))
    local = calibrated(
        DIGEST, Predictor(study, weights), patients, Wanted(refit=True), held_out=0, made=TODAY
    )
    assert local.refit is not None
    assert local.refit.changed == "nothing"
    assert not local.recalibrated
    assert local.applied_to(study, weights) == pytest.approx(weights)
    assert "nothing is changed" in refit_words(local.refit)


# What is kept


@pytest.mark.parametrize("method", ["bins", "venn-abers"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_reads_as_it_was_and_its_owner_alone_may_read_it(
    tmp_path: Path, kind: str, method: str
) -> None:
    local = found(kind, small_table(200, seed=4), method=method, refit=True)
    path = kept_at(tmp_path, DIGEST)
    path.parent.mkdir(mode=0o755)
    path.write_text("{}")
    path.chmod(0o666)
    keep(local, path)
    assert path == tmp_path / "calibrations" / f"{DIGEST}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert local_calibration(tmp_path, DIGEST) == local
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert local_calibration(tmp_path, OTHER) is None


def numbers_in(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers_in(each)]
    if isinstance(value, list):
        return [number for each in value for number in numbers_in(each)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("method", ["bins", "venn-abers"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_patient_is_kept(tmp_path: Path, kind: str, method: str) -> None:
    """No number of a patient, no value, no prediction; one score at the most, the width."""
    frame = small_table(203, seed=4).assign(dose=lambda t: t["dose"] + 0.003)
    path = tmp_path / "kept.json"
    keep(found(kind, frame, method=method), path)
    text = path.read_text()
    assert not any(number in text for number in frame["patient"])
    said = predicted(kind, frame).prediction.value
    theirs = set(said) | set(frame["dose"]) | {each for each in frame["age"] if each % 1}
    if kind == "continuous":
        gaps = np.abs(on_roots(frame["dose"].to_numpy(dtype=np.float64)) - on_roots(said))
        assert len(set(gaps) & set(numbers_in(json.loads(text)))) == 1
    assert not theirs & set(numbers_in(json.loads(text)))
    assert len(text) < 6_000


def test_a_calibration_of_another_model_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = kept_at(tmp_path, OTHER)
    keep(found("binary", small_table(100)), path)
    with pytest.raises(BundleError) as caught:
        local_calibration(tmp_path, OTHER)
    assert caught.value.code == Code.CALIBRATION_FOREIGN
    path.write_text(path.read_text()[:-9])
    with pytest.raises(BundleError) as caught:
        local_calibration(tmp_path, OTHER)
    assert caught.value.code == Code.CALIBRATION_DAMAGED
    with pytest.raises(BundleError) as caught:
        read_calibration(tmp_path / "absent.json", DIGEST)
    assert caught.value.code == Code.CALIBRATION_DAMAGED


def test_a_place_that_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError) as caught:
        keep(found("binary", small_table(100)), tmp_path / "file" / "kept.json")
    assert caught.value.code == Code.CALIBRATION_DAMAGED


# What was released


def released(kind: str, **changes: Any) -> Evaluation:
    """Return released readings of everybody."""
    found = Reading(0.4, 0.3, 0.5)
    edges = np.linspace(0.0, 1.0, 5)
    bins = tuple(
        BinReading(float(low), float(high), 50.0, Reading(low + 0.1, low + 0.05, low + 0.2))
        for low, high in pairwise(edges)
    )
    times = tuple(
        TimeReading(end, 100.0, 10.0, found, 0.4, None, (RiskReading(0.4, found),) * 3)
        for end in (100.0, 200.0, 300.0, 400.0)
    )
    fields: dict[str, dict[str, Any]] = {
        "continuous": {"metrics": {"rmse": Reading(8.0, 7.0, 9.0), "mae": Reading(6.0, 5.0, 7.0)}},
        "binary": {"metrics": {}, "calibration": bins},
        "survival": {"metrics": {}, "times": times},
    }
    said = fields[kind] | changes
    group = GroupReading("overall", "all", 100.0, 5.0, suppressed=False, **said)
    return Evaluation(metrics=(RoundReadings(60, (group,)),))


def numbers(value: list[float], study: Study = STUDIES_OF["continuous"]) -> Predicted:
    x = np.zeros((len(value), Encoding(study).width))
    made = Prediction(np.array(value))
    return Predicted(study, x, made, ((),) * len(value), np.isfinite(made.value))


def test_without_patients_here_an_interval_follows_from_the_released_error_and_says_so() -> None:
    """1.6449 deviations of 8 mg, at the typical 25 mg: as roots 1.316 to both sides."""
    made = intervals_for(numbers([25.0, 64.0, 99.0, np.nan]), released("continuous"), None)
    half = 1.644854 * 8 / (2 * np.sqrt(25))
    for each, value in zip(made[:3], (25.0, 64.0, 99.0), strict=True):
        assert each is not None
        low, high = (np.sqrt(value) - half) ** 2, min(100.0, (np.sqrt(value) + half) ** 2)
        assert (each.low, each.high) == pytest.approx((low, high))
        assert each.how == "approximate"
        assert each.words.startswith(f"Approximate: {low:.3g} to {high:.3g} mg, ")
        assert each.level == 0.9
    assert made[3] is None


@pytest.mark.parametrize("scale", ["none", "sqrt", "log"])
@pytest.mark.parametrize("typical", [10.0, 50.0, 99.0])
def test_a_large_error_is_not_cut_off_at_the_range_but_for_an_intervals_ends(
    scale: str, typical: float
) -> None:
    """Of a released 12 mg nine of ten errors lie within 19.74 mg, wherever the range ends."""
    outcome = study_data("continuous")["outcome"]
    far = outcome | {"range": [1, 100], "transform": scale, "typical": typical}
    error = {"metrics": {"rmse": Reading(12.0, 11.0, 13.0)}}
    values = [10.0, 50.0, 99.0]
    made = approximate(
        released("continuous", **error), numbers(values, small_study("continuous", outcome=far))
    )
    change, back, rise = {
        "none": (np.positive, np.positive, 1.0),
        "sqrt": (np.sqrt, np.square, 0.5 / np.sqrt(typical)),
        "log": (np.log, np.exp, 1.0 / typical),
    }[scale]
    half = 1.644854 * 12 * rise
    for each, value in zip(made, values, strict=True):
        assert each is not None
        low, high = (max(change(value) + by, change(1.0)) for by in (-half, half))
        assert (each.low, each.high) == pytest.approx((back(low), min(100.0, back(high))))


def test_where_the_typical_number_is_0_a_root_says_nothing_and_the_range_stands() -> None:
    outcome = study_data("continuous")["outcome"] | {"typical": 0.0}
    said = numbers([49.0], small_study("continuous", outcome=outcome))
    (made,) = approximate(released("continuous"), said)
    assert made is not None
    assert (made.low, made.high) == (0.0, 100.0)


def test_a_mean_error_alone_is_that_of_a_normal_error() -> None:
    mean_error = {"mae": Reading(8.0 * np.sqrt(2 / np.pi), 0.0, 9.0), "rmse": None}
    by_mean = approximate(released("continuous", metrics=mean_error), numbers([49.0]))[0]
    by_root = approximate(released("continuous"), numbers([49.0]))[0]
    assert by_mean is not None
    assert by_root is not None
    assert (by_mean.low, by_mean.high) == pytest.approx((by_root.low, by_root.high))
    assert "mean error" in by_mean.words


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_was_released_there_is_no_interval(kind: str) -> None:
    said = predicted(kind, small_table(20))
    hidden = Evaluation(
        metrics=(RoundReadings(60, (GroupReading("overall", "all", 3.0, 5.0, True, metrics={}),)),)
    )
    (everybody,) = released(kind).groups
    of_some = Evaluation(metrics=(RoundReadings(60, (replace(everybody, kind="subgroup"),)),))
    for evaluation in (
        NOTHING,
        hidden,
        of_some,
        released(kind, metrics={}, calibration=(), times=()),
    ):
        assert intervals_for(said, evaluation, None) == (None,) * 20
        if kind == "survival":
            assert survival_intervals_for(said, evaluation, None) == ((None,) * 4,) * 20


def test_a_probability_has_the_share_of_its_released_bin() -> None:
    said = predicted("binary", small_table(60))
    made = intervals_for(said, released("binary"), None)
    for each, value in zip(made, said.prediction.value, strict=True):
        low = np.floor(4 * value) / 4
        assert each is not None
        assert (each.low, each.high) == pytest.approx((low + 0.05, low + 0.2))
        assert each.words.startswith("Approximate: of patients of all hospitals")
        assert each.level == 0.95


def test_survival_has_the_released_share_of_its_risk_bin() -> None:
    said = predicted("survival", small_table(60))
    shares = [Reading(0.1 * k, 0.05 * k, 0.2 * k) for k in (1, 2, 3)]
    times = tuple(
        TimeReading(end, 9.0, 9.0, by_risk=tuple(RiskReading(None, each) for each in shares))
        for end in (200.0, 400.0)
    )
    made = survival_intervals_for(said, released("survival", times=times), None)
    edges = survival_histogram(said.study).edges
    for row, risk in zip(made, said.prediction.value, strict=True):
        share = shares[int(np.searchsorted(edges, risk))]
        assert [each is None for each in row] == [True, False, True, False]
        assert row[1] is not None
        assert (row[1].low, row[1].high) == (share.low, share.high)
        assert "at 200 days" in row[1].words


# For people


@pytest.mark.parametrize("method", ["bins", "venn-abers"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_table_for_people_has_a_title_a_column(kind: str, method: str) -> None:
    local = found(kind, small_table(200, seed=4), method=method)
    titles = titles_of(STUDIES_OF[kind], local)
    rows = list(rows_of(STUDIES_OF[kind], local))
    assert len(rows) >= 3
    assert {len(row) for row in rows} == {len(titles)}


def test_intervals_need_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, polyclinic_common.bundle.intervals\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'scipy.optimize'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interval_carries_no_treatment_effect() -> None:
    """The kinds that there are; one for one person's benefit is none of them."""
    assert set(Interval.__annotations__) == {"low", "high", "level", "how", "words"}
    with pytest.raises(ValueError, match="kind"):
        LocalCalibration.model_validate(
            {"bundle": DIGEST, "made": "2026-11-29", "alpha": 0.1, "patients": 9, "held_out": 0}
            | {"found": {"kind": "effect"}}
        )
    assert Refit.model_fields.keys() == {"shift", "slope", "changed", "patients"}
