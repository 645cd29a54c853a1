"""A menu costs what is promised, is chosen from by what was released alone, and survives cuts."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.state import ReleaseState
from polyclinic_client.study_book.price import planned_releases
from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.releases.kinds import GRADIENT, METRICS, UPDATE
from polyclinic_common.releases.plans import noise_plan
from polyclinic_common.study.sections import MenuEntry
from polyclinic_common.wire import Release, Request, VoteRequest
from polyclinic_server.rounds.mail import Mail
from polyclinic_server.rounds.metric_sums import MetricReader
from polyclinic_server.rounds.observers import Checkpoint, Observer, Round
from polyclinic_server.rounds.plan import by_released
from polyclinic_server.rounds.state import KeptSum, State
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import (
    Trained,
    evaluation_of,
    start_weights,
    train_federated,
)
from tests.kits.noise import NoNoise, Recorder
from tests.kits.small import small_study, small_table

EPSILON, DELTA = 2.0, 1e-5
ROUNDS, SITES = 3, 3
MENU = ({"learning_rate": 1e-3}, {"learning_rate": 4.0, "momentum": 0.5}, {"learning_rate": 1e-2})
KIND = {"secure-sum": GRADIENT, "local": UPDATE}


def federation(
    mode: str, menu: Sequence[dict[str, Any]] = MENU, rounds: int = ROUNDS, **evaluation: Any
) -> Federation:
    study = small_study(
        "continuous",
        sites=SITES,
        training={"rounds": rounds, "menu": list(menu)},
        privacy={"mode": mode, "epsilon": EPSILON, "delta": DELTA},
        evaluation={"private": {"share": 0.3, "metrics": ["mae"]}} | evaluation,
    )
    return build_federation(study, small_table(400, sites=SITES), seed=0)


def train(
    made: Federation,
    folder: Path,
    noise: Any = NoNoise,
    checkpoint: Checkpoint | None = None,
    after: Sequence[Observer] = (),
) -> Trained:
    mode, kept = made.study.privacy.mode, checkpoint and checkpoint.load()
    return train_federated(
        made,
        Setting(mode, None if mode == "none" else EPSILON, "descent"),
        run_id="run",
        start=kept or State.start(start_weights(made)),
        observers=[*([checkpoint] if checkpoint else []), *after],
        trainer=Trainer(noise=noise),
        folder=folder,
    )


def squared_mu(held: ReleaseState, variance: int, shares: int) -> float:
    """Return the squared mu of a release, from the noise that was really asked for."""
    charge = held.reserved.headline
    assert isinstance(charge, GaussianSum)
    return charge.sensitivity**2 / (shares * variance - 1 / 12)


@pytest.mark.parametrize("mode", KIND)
def test_every_release_of_every_setting_is_charged_within_the_promise(
    mode: str, tmp_path: Path
) -> None:
    """Epsilon is recomputed from the noise that was asked for, release by release."""
    made, recorders = federation(mode), dict[bytes, list[Recorder]]()

    def source(secret: bytes) -> Recorder:
        recorders.setdefault(secret, []).append(Recorder(secret))
        return recorders[secret][-1]

    trained = train(made, tmp_path, source)
    study, shares = made.study, made.study.m - made.study.c if mode == "secure-sum" else 1
    for number, site in enumerate(made.sites, start=1):
        with SiteFolder.open(tmp_path / f"{number:03d}") as opened:
            held, secret = opened.ledger.releases_of("run"), opened.ledger.secret
        (asked,) = [each for each in recorders[secret] if each.was_asked]
        kinds = Counter(each.reserved.release.kind for each in held)
        assert kinds == {KIND[mode]: len(MENU) * ROUNDS, METRICS: len(MENU)}
        planned = planned_releases(study, made.declared, site.name)
        assert kinds == {each.kind: each.releases for each in planned}
        assert len(asked.variances) == len(held)
        pairs = zip(held, asked.variances, strict=True)
        spent = gdp.epsilon_of(float(np.sqrt(sum(squared_mu(*p, shares) for p in pairs))), DELTA)
        reported = trained.budgets[site.name].spent
        assert 0.98 * EPSILON < spent <= reported * (1 + 1e-9)
        assert reported <= EPSILON


@pytest.mark.parametrize("mode", KIND)
def test_each_of_k_settings_has_the_square_root_of_k_times_the_noise_of_one(mode: str) -> None:
    made = federation(mode)
    alone = made.study.trained_with(MenuEntry())
    noise = noise_plan(made.study, 100, EPSILON), noise_plan(alone, 100, EPSILON)
    assert noise[0].rounds == len(MENU) * noise[1].rounds
    assert noise[0].multiplier == pytest.approx(np.sqrt(len(MENU)) * noise[1].multiplier, rel=1e-6)


@pytest.mark.parametrize("mode", KIND)
def test_the_model_is_the_candidate_whose_released_metric_was_best(
    mode: str, tmp_path: Path
) -> None:
    trained = train(federation(mode), tmp_path)
    assert [said.round_number for said in trained.metrics] == [ROUNDS, 2 * ROUNDS, 3 * ROUNDS]
    values = [said.groups[0].metrics["mae"] for said in trained.metrics]
    errors = [np.inf if value is None else value.value for value in values]
    assert trained.chosen == np.argmin(errors) == 1
    assert np.array_equal(trained.weights, trained.candidates[1])


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(len(MENU))), st.floats(-100, 100))
def test_the_choice_is_a_function_of_released_metrics_alone(order: list[int], other: float) -> None:
    """It follows the sums that were released, whatever else the state holds."""
    made = federation("local")
    evaluation = evaluation_of(made)
    assert evaluation is not None
    sites, length = tuple(made.declared), evaluation.layout.length
    held_out = sum(size.value for size in evaluation.sizes.values())
    sums = [np.full(length, held_out * level) for level in (0.5, -0.5, 0.1)]  # errors, centred
    released = tuple(KeptSum(number, sums[number], sites) for number in order)
    vectors = tuple(np.full(2, other + number) for number in range(len(MENU)))
    first, second, third = vectors
    state = State(9, first, second, third, released=released, candidates=vectors)
    assert by_released(evaluation)(state) == evaluation.choose(released) == order.index(1)
    assert set(inspect.signature(MetricReader.choose).parameters) == {"self", "released"}


def test_in_mode_none_exact_metrics_choose_and_nothing_is_released(tmp_path: Path) -> None:
    trained = train(federation("none"), tmp_path)
    assert (trained.metrics, trained.budgets, trained.rounds) == ((), {}, len(MENU) * ROUNDS)
    assert trained.chosen == 1
    assert np.array_equal(trained.weights, trained.candidates[1])


@pytest.mark.parametrize("mode", KIND)
def test_hospitals_vote_on_the_chosen_model(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, asked = Mail.ask, list[VoteRequest]()

    def ask(mail: Mail, request: Request, *sites: Any, **how: Any) -> dict[str, Release]:
        asked.extend([request] if isinstance(request, VoteRequest) else [])
        return honest(mail, request, *sites, **how)

    monkeypatch.setattr(Mail, "ask", ask)
    made = federation(mode, acceptance={"epsilon": 0.2})
    trained = train(made, tmp_path)
    (request,) = asked
    assert request.round_number == len(MENU) * ROUNDS
    assert trained.chosen == 1
    assert np.array_equal(request.weights, trained.candidates[1])
    assert trained.verdict is not None
    assert trained.verdict.votes == SITES
    assert max(budget.spent for budget in trained.budgets.values()) <= EPSILON


class CutError(Exception):
    """The server is gone."""


@dataclass
class Line:
    """Counts the server's messages, and loses what came back for one of them."""

    lost: int = 0
    asked: int = 0

    def cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = Mail.ask

        def ask(mail: Mail, *request: Any, **how: Any) -> dict[str, Release]:
            found = honest(mail, *request, **how)
            self.asked += 1
            if self.asked == self.lost:
                raise CutError
            return found

        monkeypatch.setattr(Mail, "ask", ask)


@pytest.mark.slow
@pytest.mark.parametrize("mode", KIND)
def test_a_run_cut_off_anywhere_ends_with_the_same_model_and_pays_once(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after every single message of the server: hospitals have answered, it has lost it."""
    made = federation(mode, MENU[:2], rounds=2)
    line = Line()
    line.cut(monkeypatch)
    whole = train(made, tmp_path / "whole")
    assert line.asked > 6
    for number in range(1, line.asked + 1):
        folder = tmp_path / str(number)
        checkpoint = Checkpoint(folder / "state.safetensors", "run")
        folder.mkdir()
        line.lost, line.asked = number, 0
        with pytest.raises(CutError):
            train(made, folder / "sites", checkpoint=checkpoint)
        resumed = train(made, folder / "sites", checkpoint=checkpoint)
        assert np.array_equal(resumed.weights, whole.weights), number
        assert (resumed.chosen, resumed.metrics) == (whole.chosen, whole.metrics), number
        for budget in resumed.budgets.values():
            done = {line.kind: line.done for line in budget.lines}
            assert done == {KIND[mode]: 4, METRICS: 2}, number


@dataclass
class CutAfter:
    """Ends the run after a round."""

    ended: int

    def after_round(self, finished: Round) -> None:
        if finished.number == self.ended:
            raise CutError


@pytest.mark.parametrize("mode", KIND)
@pytest.mark.parametrize("ended", range(1, 2 * 2 + 1))
def test_a_run_cut_off_between_rounds_turns_to_the_next_setting_once(
    mode: str, ended: int, tmp_path: Path
) -> None:
    """Cut after the checkpoint of a round: between metrics and the turn to the next setting."""
    made = federation(mode, MENU[:2], rounds=2)
    whole = train(made, tmp_path / "whole")
    folder = tmp_path / "sites"
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    with pytest.raises(CutError):
        train(made, folder, checkpoint=checkpoint, after=[CutAfter(ended)])
    kept = checkpoint.load()
    assert kept is not None
    assert len(kept.candidates) == (ended - 1) // 2
    assert len(kept.released) == ended // 2
    resumed = train(made, folder, checkpoint=checkpoint)
    assert np.array_equal(resumed.weights, whole.weights)
    assert np.array_equal(resumed.candidates, whole.candidates)
    for budget in resumed.budgets.values():
        done = {line.kind: line.done for line in budget.lines}
        assert done == {KIND[mode]: 4, METRICS: 2}


def test_candidates_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    state = State(4, np.ones(3), np.zeros(3), np.ones(3))
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    for candidates in ((), (np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]))):
        checkpoint.write(replace(state, candidates=candidates))
        found = checkpoint.load()
        assert found is not None
        assert len(found.candidates) == len(candidates)
        assert np.array_equal(found.candidates, candidates)
