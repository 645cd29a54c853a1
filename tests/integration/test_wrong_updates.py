"""A hospital that sends what it cannot have computed is named, and ends nobody else's run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from polyclinic_client.run.flower_app import Answers
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.errors import Code, RunError
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.releases.kinds import GRADIENT, METRICS, STATISTICS, UPDATE
from polyclinic_common.wire import MaskedVector, PrivateUpdate, decode_reply, encode_reply
from polyclinic_server.rounds.coordinator import IMPLAUSIBLE
from polyclinic_server.rounds.observers import Round
from polyclinic_server.rounds.reach import Reach
from polyclinic_server.rounds.state import State
from polyclinic_server.runs.folder import Event, RunFolder
from polyclinic_server.runs.process import Chronicle
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import Trained, start_weights, train_federated
from tests.kits.small import small_study, small_table

ROUNDS = 4
Lie = Callable[[Vector], Vector]


def entry(value: float) -> Lie:
    """Put a value in the place of one entry."""

    def lie(vector: Vector) -> Vector:
        return np.concatenate([[value], vector[1:]])

    return lie


def off_the_grid(vector: Vector) -> Vector:
    return np.asarray(np.nextafter(vector, np.inf), dtype=np.float64)


LIES: dict[str, Lie] = {
    "enormous": entry(1e300),
    "too large": lambda vector: vector + 2.0**21,
    "off the grid": off_the_grid,
    "almost nothing": entry(5e-324),
    "too short": lambda vector: vector[1:],
    "too long": lambda vector: np.concatenate([vector, [0.0]]),
}


@dataclass
class Liar:
    """The first hospital, which alters what it sends of a kind, from a round on."""

    real: Answers
    kind: str
    lie: Lie
    first: int = 1

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        said = decode_reply(self.real.answer(content, memory))
        if (
            isinstance(said, PrivateUpdate | MaskedVector)
            and said.kind == self.kind
            and said.round_number >= self.first
        ):
            said = replace(said, vector=self.lie(said.vector))
        return encode_reply(said)


@dataclass
class Seen:
    """Keeps who was refused, and why, by round."""

    refused: list[Mapping[str, str]] = field(default_factory=list)

    def after_round(self, finished: Round) -> None:
        self.refused.append(dict(finished.refused))


def run_with(
    liars: int,
    kind: str,
    lie: Lie,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    strategy: str = "descent",
    mode: str = "local",
    first: int = 1,
    outcome: str = "binary",
    **more: Any,
) -> tuple[Trained, Seen]:
    """Train with so many of four hospitals lying."""
    real = Hospitals.site

    def site(hospitals: Hospitals, index: int) -> Answers:
        answers = real(hospitals, index)
        return Liar(answers, kind, lie, first) if index < liars else answers

    monkeypatch.setattr(Hospitals, "site", site)
    training = {"rounds": ROUNDS, "strategy": strategy} | more.pop("training", {})
    setting, seen = Setting(mode, 4.0, strategy), Seen()
    study = small_study(outcome, sites=4, training=training, privacy={"mode": mode}, **more)
    made = build_federation(setting.apply(study), small_table(200, sites=4), seed=0)
    trained = train_federated(
        made,
        setting,
        run_id="run",
        start=State.start(start_weights(made)),
        observers=[seen],
        folder=folder,
    )
    return trained, seen


@pytest.mark.parametrize("strategy", ["descent", "fedavg", "krum"])
@pytest.mark.parametrize("lie", LIES)
def test_a_wrong_update_is_that_hospitals_refusal_by_name_and_not_the_runs_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str, strategy: str
) -> None:
    trained, seen = run_with(1, UPDATE, LIES[lie], tmp_path, monkeypatch, strategy=strategy)
    why = "wrong answer" if lie in {"too short", "too long"} else IMPLAUSIBLE
    assert trained.rounds == ROUNDS
    assert seen.refused == [{"site 0": why}] * ROUNDS
    assert (np.abs(trained.weights) < 100).all()


SAMPLED = {"schedule": "sampled", "batch": 20, "epochs": 1}


@pytest.mark.parametrize(
    ("strategy", "training"),
    [
        ("descent", {}),
        ("fedavg", {}),
        ("fedadam", SAMPLED),
        ("fedprox", SAMPLED | {"pull": 1.0}),
        ("fedavg", {"personalisation": "mr-mtl", "pull": 1.0}),
    ],
)
def test_honest_hospitals_are_never_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, training: dict[str, Any]
) -> None:
    """By chance below 1e-800: 64 deviations of noise are within reach."""
    trained, seen = run_with(
        0, UPDATE, entry(0.0), tmp_path, monkeypatch, strategy=strategy, training=training
    )
    assert trained.rounds == ROUNDS
    assert seen.refused == [{}] * ROUNDS


@pytest.mark.parametrize("lie", ["enormous", "off the grid", "too long"])
def test_wrong_private_metrics_are_refused_too_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    private = {"metrics": ["accuracy"], "every": 2}
    trained, seen = run_with(
        1, METRICS, LIES[lie], tmp_path, monkeypatch, evaluation={"private": private}
    )
    assert [sorted(each) for each in seen.refused] == [[], ["site 0"], [], ["site 0"]]
    assert len(trained.metrics) == 2
    readings = [said.groups[0].metrics["accuracy"] for said in trained.metrics]
    assert all(reading is None or 0.0 <= reading.value <= 1.0 for reading in readings)


def test_only_if_too_few_remain_does_the_run_end_and_it_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError) as caught:
        run_with(4, UPDATE, LIES["enormous"], tmp_path, monkeypatch, first=2)
    assert caught.value.code == Code.RUN_TOO_FEW_SITES
    assert caught.value.what.startswith("Round 2 has 0 answers")
    for number in range(4):
        assert f"site {number}: {IMPLAUSIBLE}" in caught.value.what


def test_no_change_within_reach_leads_a_model_out_of_its_bounds() -> None:
    reach = Reach(-20, LARGEST_WEIGHT, of_model=True)
    weights = np.array([0.75 * LARGEST_WEIGHT])
    assert reach.holds(np.array([0.25 * LARGEST_WEIGHT]), weights)
    assert reach.holds(np.array([-1.75 * LARGEST_WEIGHT]), weights)
    assert not reach.holds(np.array([0.5 * LARGEST_WEIGHT]), weights)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308, -1e308, 2.0**-21, 4.5])
def test_what_is_no_number_of_the_grid_is_out_of_reach(value: float) -> None:
    for reach in (Reach(-20, 4.0), Reach(-20, 4.0, of_model=True)):
        assert not reach.holds(np.array([value, 0.0]), np.zeros(2))
        assert reach.holds(np.array([4.0, -4.0]), np.zeros(2))


@pytest.mark.parametrize("kind", [GRADIENT, METRICS, STATISTICS])
def test_an_impossible_sum_ends_the_run_and_says_that_nobody_can_tell_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A masked vector is noise to the server; only a sum can be seen to be wrong."""

    def shift(vector: Vector) -> Vector:
        return vector + np.uint64(1 << 62)

    more: dict[str, Any] = {"evaluation": {"private": {"metrics": ["accuracy"], "every": 2}}}
    if kind == STATISTICS:
        more = {"training": {"start": "statistics"}, "outcome": "continuous"}
    with pytest.raises(RunError) as caught:
        run_with(1, kind, shift, tmp_path, monkeypatch, mode="secure-sum", **more)
    assert caught.value.code == Code.RUN_SPOILED
    assert f"({kind}) over site 0, site 1, site 2, site 3" in caught.value.what
    assert "whose part is wrong cannot be told" in caught.value.what


def test_an_honest_secure_sum_is_within_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, _ = run_with(0, GRADIENT, entry(0.0), tmp_path, monkeypatch, mode="secure-sum")
    assert trained.rounds == ROUNDS


def test_who_was_refused_and_why_stands_in_the_events_and_in_run_show(tmp_path: Path) -> None:
    from polyclinic_server.cli.run import _words

    run = RunFolder(tmp_path)
    state, refused = State.start(np.zeros(2)), {"H 03": IMPLAUSIBLE}
    Chronicle(run, 9).after_round(Round(1, {}, state, ("H 01", "H 02"), refused))
    (event,) = run.events()
    assert event.refused == refused
    assert _words(event).endswith("; H 03: sent what no hospital can have computed")
    old = '{"at":1.0,"what":"round","round":1,"rounds":9,"sites":["H 01"],"seconds":0.5}'
    assert Event.model_validate_json(old).refused == {}
