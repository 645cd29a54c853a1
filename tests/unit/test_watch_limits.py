"""The calibration CUSUM and its limits: known answers, and no more alarms than were promised."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, mannwhitneyu

from polyclinic_client.watch import limits as limits_module
from polyclinic_client.watch.budget import CALIBRATION, INPUTS, LOOKS, TILT
from polyclinic_client.watch.chances import Chances, known_of
from polyclinic_client.watch.cusum import SHIFT, cost, cusum
from polyclinic_client.watch.limits import limits, tilt_of
from polyclinic_client.watch.ranking import concordance
from polyclinic_common.models.predict import Prediction
from tests.kits.small import OUTCOMES, small_study


def chances(risk: np.ndarray, seen: np.ndarray) -> Chances:
    return Chances(seen, risk, np.log(risk / (1 - risk)), np.arange(len(risk)))


def drawn(rng: np.random.Generator, count: int, shift: float = 0.0) -> Chances:
    logit = rng.normal(-0.3, 0.8, count)
    seen = (rng.random(count) < 1 / (1 + np.exp(-logit - shift))).astype(float)
    return chances(1 / (1 + np.exp(-logit)), seen)


def test_the_sums_are_those_that_one_works_out_by_hand() -> None:
    found = cusum(chances(np.array([0.5, 0.5, 0.5]), np.array([1.0, 1.0, 0.0])))
    one = 0.5 - math.log(0.5 + 0.5 * math.exp(0.5))
    zero = -math.log(0.5 + 0.5 * math.exp(0.5))
    assert found.more == pytest.approx([one, 2 * one, 2 * one + zero])
    assert found.less == pytest.approx([0.0, 0.0, -math.log(0.5 + 0.5 * math.exp(-0.5))])


@pytest.mark.parametrize("shift", [SHIFT, -SHIFT])
def test_every_score_is_a_likelihood_ratio_so_that_its_mean_is_one_under_the_model(
    shift: float,
) -> None:
    """The sum of one start is a martingale: Ville's inequality holds for it at any look."""
    risk = np.linspace(0.001, 0.999, 41)
    made = chances(risk, np.zeros(41))
    ratio = [np.exp(shift * y - cost(made, shift)) for y in (0.0, 1.0)]
    assert (1 - risk) * ratio[0] + risk * ratio[1] == pytest.approx(np.ones(41))


def test_the_budget_adds_up_to_one_alarm_in_sixty_looks() -> None:
    assert LOOKS == 60
    assert pytest.approx(1.0) == LOOKS * (CALIBRATION + TILT + INPUTS)


def test_a_limit_says_the_same_at_every_later_look() -> None:
    made, stops = drawn(np.random.default_rng(4), 200), [40, 90, 150, 200]
    whole = limits(made, stops, 0.02, 0.01)
    for count in (1, 2, 3):
        part = limits(made.first(stops[count - 1]), stops[:count], 0.02, 0.01)
        for early, late in zip(part, whole, strict=False):
            assert astuple(early) == pytest.approx(astuple(late))


@pytest.mark.parametrize("numbers", [False, True])
def test_a_model_that_is_right_is_alarmed_as_seldom_as_promised(numbers: bool) -> None:
    """Seeded; of hospitals drawn anew, one in a million would have more than this bound."""
    rng, hospitals, share = np.random.default_rng(5), 150, 0.1
    off = tilted = 0
    for _ in range(hospitals):
        made = drawn(rng, 60)
        if numbers:
            made = Chances(rng.standard_t(5, 60), None, rng.normal(size=60), np.arange(60))
        (limit,) = limits(made, [60], share, share)
        sums = cusum(made)
        off += sums.more[-1] > limit.more or sums.less[-1] > limit.less
        tilted += tilt_of(made) < limit.tilt
    most = binom.isf(1e-6, hospitals, share)
    assert 0 < off <= most
    assert 0 < tilted <= most


@pytest.mark.parametrize(("transform", "error"), [("sqrt", 1.2), ("log", 0.5)])
def test_a_model_of_roots_or_logarithms_that_is_right_is_alarmed_as_seldom(
    transform: str, error: float
) -> None:
    """What is symmetric is the error on the scale of the model; in the unit it is skewed.

    Errors here are almost four times the released one, so that a sum is slow to forget.

    Seeded; of hospitals drawn anew, one in a million would have more than this bound.
    """
    outcome = OUTCOMES["continuous"] | {"transform": transform, "range": [0.001, 1000]}
    contract, count = small_study("continuous", outcome=outcome), 200
    rng, hospitals, share, off = np.random.default_rng(10), 40, 0.1, 0
    back = np.square if transform == "sqrt" else np.exp
    for _ in range(hospitals):
        told = rng.normal(*((3.7, 0.2) if transform == "sqrt" else (3.0, 0.3)), count)
        frame = pd.DataFrame({"dose": back(told + rng.normal(0, error, count))})
        known = known_of(contract, frame, Prediction(back(told)), np.ones(count, bool), 0.02)
        (limit,) = limits(known.chances, [len(known.chances)], share, share)
        sums = cusum(known.chances)
        off += sums.more[-1] > limit.more or sums.less[-1] > limit.less
    assert 0 < off <= binom.isf(1e-6, hospitals, share)


def test_of_looks_in_a_row_new_alarms_are_bounded_and_lasting_ones_twice_that() -> None:
    """Counted among the very draws that the limits are taken from: an arithmetic identity."""
    made, stops, share = drawn(np.random.default_rng(6), 120), [30, 45, 60, 120], 0.02
    found = limits(made, stops, share, share)
    draws = limits_module.DRAWS
    before = np.zeros(draws, dtype=bool)
    for drawn_at, limit in zip(limits_module._drawn(made, stops), found, strict=True):
        _, more, less, tilts = drawn_at
        now = (more > limit.more) | (less > limit.less)
        assert (now & ~before).sum() <= share * (draws + 1)
        assert now.sum() <= 2 * share * (draws + 1)
        assert (tilts < limit.tilt).sum() <= share * (draws + 1)
        before = now
    assert before.any()


def test_predictions_that_are_right_on_average_only_are_tilted() -> None:
    rng = np.random.default_rng(7)
    logit = rng.normal(0, 1.5, 400)
    made = chances(1 / (1 + np.exp(-logit)), (rng.random(400) < 0.5).astype(float))
    (limit,) = limits(made, [400], CALIBRATION, TILT)
    assert tilt_of(made) < limit.tilt
    right = drawn(rng, 400)
    (limit,) = limits(right, [400], CALIBRATION, TILT)
    assert tilt_of(right) >= limit.tilt


def test_ranking_is_the_auc_and_harrells_index() -> None:
    rng = np.random.default_rng(8)
    score, seen = rng.normal(size=90).round(1), (rng.random(90) < 0.4).astype(float)
    auc = mannwhitneyu(score[seen == 1], score[seen == 0]).statistic / (
        seen.sum() * (1 - seen).sum()
    )
    found = concordance(score, 1 - seen, seen)
    assert found is not None
    assert found.value == pytest.approx(auc)
    assert found.low < auc < found.high
    lifelines = pytest.importorskip("lifelines.utils")
    time = rng.exponential(10, 90).round(0)
    harrell = lifelines.concordance_index(time, -score, seen)
    told = concordance(score, time, seen)
    assert told is not None
    assert told.value == pytest.approx(harrell)
    assert concordance(score, time, np.zeros(90)) is None


def test_the_interval_of_a_ranking_holds_the_truth_as_often_as_it_says() -> None:
    """AUC of two normals one standard deviation apart: Phi(1 / sqrt 2) = 0.7602."""
    rng, runs, held = np.random.default_rng(9), 300, 0
    for _ in range(runs):
        seen = np.repeat([0.0, 1.0], 50)
        found = concordance(rng.normal(seen), 1 - seen, seen)
        assert found is not None
        held += found.low <= 0.7602 <= found.high
    assert 0.9 <= held / runs <= 0.99
