"""The charged phase after training: what a patient can add, what it costs, and when it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polyclinic_client.run.assembly import rounds_of
from polyclinic_client.run.refusals import RefusalError
from polyclinic_client.run.update_responder import Memory, UpdateResponder
from polyclinic_client.study_book.price import planned_in
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.calibration import BOUNDS, ENTRIES, contributions
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import LARGEST_WEIGHT, weight_count
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT, METRICS, UPDATE
from polyclinic_common.releases.schedule import Schedule, declared_for
from polyclinic_common.study import Study
from polyclinic_common.wire import Reason, TrainRequest
from tests.kits.hospital import Hospital
from tests.kits.small import small_study, small_table

TRAINING: dict[str, Any] = {"rounds": 3, "calibration": {"share": 0.2, "steps": 2}}
LOCAL = {"mode": "local"}
MLP = {"kind": "mlp", "hidden": [4, 3]}


def study_of(kind: str = "binary", **more: Any) -> Study:
    return small_study(kind, training=TRAINING, **more)


@pytest.mark.parametrize("model", [{}, MLP], ids=["linear", "mlp"])
@pytest.mark.parametrize("kind", ["binary", "continuous"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_broadcast_takes_a_patients_vector_beyond_the_clip(
    kind: str, model: dict[str, Any], data: st.DataObject
) -> None:
    """By proof, not by clipping: at any model that is let in, for any encoded patient."""
    study = study_of(kind, model=model)
    encoding = Encoding(study)
    count = weight_count(build_network(study, encoding))
    size = st.floats(-LARGEST_WEIGHT, LARGEST_WEIGHT, allow_nan=False)
    weights = np.array(data.draw(st.lists(size, min_size=count, max_size=count)))
    cohort = encoding.encode(small_table(40), "site 0")
    rows = contributions(encoding, weights, cohort.x, cohort.y, cohort.mask)
    assert rows.shape == (40, ENTRIES)
    assert (np.linalg.norm(rows, axis=1) <= BOUNDS[study.loss].clip * (1 + 1e-12)).all()


def test_the_bound_of_yes_or_no_is_the_least_one() -> None:
    """2 e^2 + 20 k^2 e^2 (1 - e)^2 at e = 1; no e gives more."""
    error, (clip, factor) = np.linspace(0.0, 1.0, 100_001), BOUNDS["logistic"]
    squared = 2 * error**2 + 20 * factor**2 * error**2 * (1 - error) ** 2
    assert squared.max() == squared[-1] == 2.0 == pytest.approx(clip**2)


def test_hazards_of_many_intervals_do_pass_the_clip_and_are_clipped() -> None:
    """Which is why they are: a sure model is wrong in every interval."""
    study = study_of("survival")
    encoding, table = Encoding(study), small_table(40)
    plan = Schedule.of(study, 40, "rows").secure_sums[CALIBRATION]
    weights = np.zeros(weight_count(build_network(study, encoding)))
    weights[-encoding.outputs :] = 20.0 / encoding.intercept
    cohort = encoding.encode(table, "site 0")
    rows = contributions(encoding, weights, cohort.x, cohort.y, cohort.mask)
    assert np.linalg.norm(rows, axis=1).max() > plan.clip


@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_gradient_and_curvature_are_the_derivatives_of_the_loss_by_level_and_slope(
    kind: str,
) -> None:
    """By finite differences, where no bound is reached."""
    from polyclinic_common.models.calibration import recalibrated, score_scale
    from polyclinic_common.models.score_head import logits

    study = study_of(kind)
    encoding = Encoding(study)
    network = build_network(study, encoding)
    weights = np.random.default_rng(1).normal(0, 0.5, weight_count(network))
    cohort = encoding.encode(small_table(30), "site 0")

    def loss(shift: float, step: float) -> NDArray[np.float64]:
        slope = 1.0 + step / score_scale(encoding, weights)
        z = logits(network, recalibrated(encoding, weights, shift, slope), cohort.x)
        each = 0.5 * (z - cohort.y) ** 2
        if kind != "continuous":
            each = np.logaddexp(0.0, z) - z * cohort.y
        return np.asarray((cohort.mask * each).sum(axis=1))

    found = contributions(encoding, weights, cohort.x, cohort.y, cohort.mask)
    factor, h = BOUNDS[study.loss].curvature, 1e-4
    level, slope = (loss(h, 0) - loss(-h, 0)) / (2 * h), (loss(0, h) - loss(0, -h)) / (2 * h)
    twice = factor * (loss(h, 0) - 2 * loss(0, 0) + loss(-h, 0)) / h**2
    cross = factor * (loss(h, h) - loss(h, -h) - loss(-h, h) + loss(-h, -h)) / (4 * h**2)
    own = factor * (loss(0, h) - 2 * loss(0, 0) + loss(0, -h)) / h**2
    inside = (np.abs(slope) < 0.95 * np.abs(level)) & (np.abs(level) < 0.45)
    beyond = np.abs(slope) > 1.05 * np.abs(level)
    if kind != "continuous":
        inside = np.abs(slope) < 0.95 * np.abs(level)
    assert min(inside.sum(), beyond.sum()) > 5
    expected = np.column_stack([level, slope, twice, cross, cross, own])
    assert found[inside] == pytest.approx(expected[inside], abs=2e-6)
    assert found[beyond][:, 4] == pytest.approx(cross[beyond], abs=2e-6)


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 8.0])
def test_what_is_planned_costs_the_promise_together(mode: str, epsilon: float) -> None:
    study = study_of(
        privacy={"mode": mode, "epsilon": epsilon}, evaluation={"private": {"share": 0.1}}
    )
    sizes = dict.fromkeys(study.roster.sites, 100)
    planned = planned_in(Schedule.of(study, declared_for(study, sizes, study.roster.sites[0])))
    costs: dict[Any, int] = {}
    for each in planned:
        costs[each.headline] = costs.get(each.headline, 0) + each.releases
    spent = spent_epsilon(costs, study.privacy.delta)
    assert 0.98 * epsilon < spent <= epsilon
    squares = {
        each.kind: each.releases * each.headline.mu**2
        for each in planned
        if isinstance(each.headline, GaussianSum)
    }
    assert squares[CALIBRATION] / sum(squares.values()) == pytest.approx(0.2, rel=0.02)


def test_a_study_without_calibration_costs_what_it_did() -> None:
    with_it, without = study_of(), small_study(training={"rounds": 3})
    plans = Schedule.of(without, 100, "rows").secure_sums
    assert CALIBRATION not in plans
    assert plans[GRADIENT].rounds == 3
    less = Schedule.of(with_it, 100, "rows").plan(GRADIENT)
    assert plans[GRADIENT].variance < less.variance


def test_kinds_are_asked_for_in_their_rounds_alone() -> None:
    rounds = rounds_of(Schedule.of(study_of(evaluation={"private": {}}), 10))
    assert UPDATE not in rounds
    assert list(rounds[GRADIENT]) == [1, 2, 3]
    assert list(rounds[CALIBRATION]) == [4, 5]
    assert list(rounds[METRICS]) == [5]


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (1, CALIBRATION, Reason.OUT_OF_ORDER),
        (4, UPDATE, Reason.OUT_OF_ORDER),
        (6, CALIBRATION, Reason.OVER_BUDGET),
    ],
)
def test_a_hospital_of_mode_local_refuses_other_rounds_before_anything_is_drawn(
    number: int, kind: str, reason: Reason, tmp_path: Path
) -> None:
    hospital = Hospital(study_of(privacy=LOCAL), tmp_path / "site", patients=20)
    answers = hospital.site._answers
    assert isinstance(answers, UpdateResponder)
    request = TrainRequest(hospital.study.hash(), "run", number, kind, hospital.weights)
    with pytest.raises(RefusalError) as refused:
        answers.update(request, Memory())
    assert refused.value.reason == reason
    assert not hospital.folder.ledger.releases_of("run")


def test_level_and_slope_are_those_of_the_loss_of_this_hospitals_patients(tmp_path: Path) -> None:
    """What leaves is the noisy sum of all its training patients, at the model that was sent."""
    hospital = Hospital(study_of(privacy=LOCAL), tmp_path / "site", patients=400)
    left = hospital.draw(CALIBRATION, 4)
    train, _ = hospital.cohorts()
    whole = contributions(
        hospital.approved.encoding, hospital.weights, train.x, train.y, train.mask
    ).sum(axis=0)
    charge = hospital.planned[CALIBRATION].headline
    assert isinstance(charge, GaussianSum)
    plan = Schedule.of(hospital.study, 10).plan(CALIBRATION)
    assert plan.headline == charge
    # six deviations a coordinate: a false alarm in five once in 10^8 runs
    assert np.abs(left * plan.grid - whole).max() < 6 * plan.deviation
    assert left.size == ENTRIES == charge.length
