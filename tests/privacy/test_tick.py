"""Answers leave at moments that tell nothing about how many patients a hospital has.

The real site book over a real folder, a real cohort, real sums and votes; only the clock is
another: it moves by what the work would take on a machine so many times slower than the one that
the public times were measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_client.compute.integers import SummedRows
from polyclinic_client.compute.metric_sums import SummedMetrics
from polyclinic_client.compute.opinion import BetterHere
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate import pace
from polyclinic_client.gate.due import FACTOR, OVER, Due
from polyclinic_client.gate.pace import SLOWER, Cost, pace_of
from polyclinic_client.ledger.entries import Approval
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.records.journal import Climbed, Failed, Left
from polyclinic_client.run.approved_study import approved_with
from polyclinic_client.run.refusals import SilenceError
from polyclinic_client.run.update_responder import Memory
from polyclinic_client.study_book.price import planned_releases
from polyclinic_client.worker.site_book import SiteBook
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.identity.roster import Roster
from polyclinic_common.models.head import length_of
from polyclinic_common.release_id import VOTE
from polyclinic_common.releases.kinds import METRICS, UPDATE
from polyclinic_common.releases.shares import most_patients
from polyclinic_common.study.manifest import Study
from polyclinic_common.wire import Release, Request, TrainRequest, VoteRequest, decode_reply
from polyclinic_common.wire import encode_request as encoded
from tests.kits.gate import FakeClock
from tests.kits.small import small_study, small_table

SIZES = (10**2, 10**3, 10**4, 10**5)
DECLARED = 50_000  # allows 131,072
NAME = "site 0"
RUN = "run"


def make_study(kind: str = "survival", **changes: Any) -> Study:
    evaluation = {"private": {"every": 2}, "acceptance": {"epsilon": 0.1}}
    training = {"rounds": 4} | changes
    return small_study(kind, privacy={"mode": "local"}, training=training, evaluation=evaluation)


@dataclass
class SlowMachine:
    """Moves a clock while patients are worked on, `slower` times as far as was measured."""

    slower: float
    clock: FakeClock = field(default_factory=FakeClock)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        costs = pace.GRADIENT_COST, pace.SUM_COST
        self._slow(monkeypatch, Encoding, "encode", lambda _, frame, *__: self._reading(frame))
        for owner, cost in zip((SummedRows, SummedMetrics), costs, strict=True):
            self._slow(monkeypatch, owner, "integer_sum", self._summing(cost))
        self._slow(monkeypatch, BetterHere, "__call__", self._voting)

    def _slow(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, cost: Callable[..., float]
    ) -> None:
        work = getattr(owner, name)

        def slow(*args: Any) -> Any:
            found = work(*args)
            self.clock.time += self.slower * cost(*args)
            return found

        monkeypatch.setattr(owner, name, slow)

    def _reading(self, frame: pd.DataFrame) -> float:
        return pace.FIRST_COST.of(len(frame), frame.shape[1])

    def _summing(self, cost: Cost) -> Callable[..., float]:
        def seconds(_: object, weights: Any, blocks: Any) -> float:
            return cost.of(sum(len(block[0]) for block in blocks), len(weights))

        return seconds

    def _voting(self, vote: BetterHere, weights: Any) -> float:
        patients, forward = len(vote.held_out), 2 * pace.FORWARD_S * len(weights)
        ranked = pace.RANK_S if vote.encoding.study.outcome.kind == "survival" else 0.0
        return pace.VOTE_COST.of(patients, 0) + patients * (forward + ranked)


class Hospital:
    """One hospital with so many patients, all of whom it may have under what it declares."""

    def __init__(self, folder: Path, study: Study, patients: int, clock: FakeClock):
        self.study, self.clock = study, clock
        self.table = small_table(patients, sites=1)
        self.declared = dict.fromkeys(study.roster.sites, DECLARED)
        self.path = folder
        if not (folder / "ledger.sqlite").exists():
            self._found()
        self.folder = SiteFolder.open(folder)
        roster = Roster.of({NAME: self.folder.identity.public, "site 1": b"1" * 32})
        approved = approved_with(
            study, roster, frozenset(), self.declared, NAME, lambda: self.table
        )
        self.dues: list[Due] = []
        self.book = SiteBook(self.folder, {study.hash(): approved}.get, clock)

    def _found(self) -> None:
        approval = Approval(
            study_hash=bytes.fromhex(self.study.hash()),
            run=None,
            planned=planned_releases(self.study, self.declared, NAME),
            lost_rounds=0,
            expires=self.study.expires,
        )
        with SiteFolder.create(self.path, delta=1e-6, epsilon_cap=90.0) as made:
            made.ledger.approve(approval)

    def ask(self, request: Request) -> Release:
        """Have a request answered that comes at a fixed moment after the last answer's tick."""
        self.clock.time = np.ceil(self.clock.time) + 0.1
        return self.ask_now(request)

    def ask_now(self, request: Request) -> Release:
        """Have a request answered, and note when the answer was due in the end."""
        told: list[Due] = []
        try:
            return decode_reply(self.book.answer(encoded(request), Memory(), told.append))
        finally:
            self.dues += told[-1:]

    def questions(self) -> list[Request]:
        """Return one request of every kind for which patients are read, the first twice."""
        weights, name = np.zeros(length_of(self.study)), (self.study.hash(), RUN)
        return [
            TrainRequest(*name, 1, UPDATE, weights),
            TrainRequest(*name, 1, UPDATE, weights),
            TrainRequest(*name, 2, UPDATE, weights),
            TrainRequest(*name, 2, METRICS, weights),
            VoteRequest(*name, 4, weights),
        ]

    def answer_all(self) -> list[int]:
        """Have all kinds of request answered; return on which ticks the answers left."""
        for question in self.questions():
            self.ask(question)
        return self.ticks()

    def ticks(self) -> list[int]:
        return [each.tick for each in self.events(Left)]

    def events(self, kind: type[Any]) -> list[Any]:
        noted = [each.event for each in self.folder.journal.events()]
        return [each for each in noted if isinstance(each, kind)]


@pytest.mark.parametrize("kind", ["survival", "continuous"])
def test_equal_declarations_leave_on_equal_ticks_whatever_the_true_size(
    tmp_path: Path, kind: str
) -> None:
    """On a machine as slow as the public times allow for: no comparison with the size is left."""
    found = []
    for size in SIZES:
        assert size <= most_patients(DECLARED)
        with pytest.MonkeyPatch.context() as patch:
            machine = SlowMachine(SLOWER)
            machine.install(patch)
            hospital = Hospital(tmp_path / str(size), make_study(kind), size, machine.clock)
            found.append(hospital.answer_all())
            assert not hospital.events(Climbed)
            assert not hospital.events(Failed)
    assert len(found[0]) == 5
    assert found == [found[0]] * len(SIZES)


@pytest.mark.parametrize("brought", [0.0, 0.013, 0.24, 1.5])
@pytest.mark.parametrize("phase", [0.0, 0.001, 0.1, 0.249])
def test_what_computing_is_given_depends_neither_on_arrival_nor_on_what_a_message_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: float, brought: float
) -> None:
    """Else a server could shift it against the time that computing takes, and so measure that."""
    hospital = Hospital(tmp_path, make_study("continuous"), 100, FakeClock())
    clock, check, summed = hospital.clock, Ledger.check, SummedRows.integer_sum
    begun: list[float] = []

    def busy(ledger: Ledger, *args: Any, **names: Any) -> Any:
        clock.time += brought
        return check(ledger, *args, **names)

    def noted(sums: SummedRows, *args: Any) -> Any:
        begun.append(clock.time)
        return summed(sums, *args)

    hospital.ask(hospital.questions()[0])  # the table is read
    monkeypatch.setattr(Ledger, "check", busy)
    monkeypatch.setattr(SummedRows, "integer_sum", noted)
    clock.time = np.ceil(clock.time) + phase
    hospital.ask_now(hospital.questions()[2])
    (step, *_), (start,) = hospital.dues[-1].steps, begun
    assert (
        step.moment - start
        == step.seconds
        == pace_of(make_study("continuous"), DECLARED, 37_500).work[UPDATE]
    )


def test_on_a_machine_that_is_too_slow_a_study_climbs_once_and_for_good(tmp_path: Path) -> None:
    """A hospital that was late once is as late with any number of patients, also started anew."""
    study = make_study()
    with pytest.MonkeyPatch.context() as patch:
        machine = SlowMachine(3 * SLOWER)
        machine.install(patch)
        large = Hospital(tmp_path / "site", study, SIZES[-1], machine.clock)
        large.answer_all()
        (climb,) = large.events(Climbed)
        assert (climb.study_hash.hex(), climb.run, climb.step) == (study.hash(), RUN, 1)
        assert climb.outlasted == 1000 * large.dues[0].steps[0].seconds
        assert [due.steps[0].number for due in large.dues] == [0, 1, 1, 1, 1]
        large.folder.close()
    lowest = pace_of(study, DECLARED, 37_500)
    for size in (SIZES[0], SIZES[-1]):
        with pytest.MonkeyPatch.context() as patch:
            machine = SlowMachine(1.0)
            machine.install(patch)
            again = Hospital(tmp_path / "site", study, size, machine.clock)
            before = len(again.ticks())
            again.answer_all()
            assert [due.steps[0].seconds for due in again.dues] == [
                FACTOR * seconds
                for seconds in (
                    lowest.first + lowest.work[UPDATE],
                    *(lowest.work[kind] for kind in (UPDATE, UPDATE, METRICS, VOTE)),
                )
            ]
            left = [due.steps[0].moment * 1000 for due in again.dues]
            assert again.ticks()[before:] == left
            assert len(again.events(Climbed)) == 1
            again.folder.close()


def test_after_the_whole_ladder_a_study_is_met_with_silence_and_no_patient_is_read(
    tmp_path: Path,
) -> None:
    study = make_study()
    with pytest.MonkeyPatch.context() as patch:
        machine = SlowMachine(1e5)
        machine.install(patch)
        slow = Hospital(tmp_path / "site", study, SIZES[1], machine.clock)
        with pytest.raises(SilenceError):
            slow.ask(slow.questions()[0])
        assert [each.step for each in slow.events(Climbed)] == [OVER]
        slow.folder.close()
    with pytest.MonkeyPatch.context() as patch:
        machine = SlowMachine(1.0)
        machine.install(patch)
        again = Hospital(tmp_path / "site", study, SIZES[0], machine.clock)
        again.table = pd.DataFrame()  # would fail if it were read
        for question in again.questions():
            before = again.clock.time
            with pytest.raises(SilenceError):
                again.ask(question)
            assert again.clock.time - np.ceil(before) < 1.0
        assert not again.ticks()
        assert {each.code for each in again.events(Failed)} == {"G002"}


def test_what_fails_while_the_table_is_read_is_silent_as_long_as_an_answer_takes(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    hospital = Hospital(tmp_path / "site", make_study(), SIZES[0], clock)
    hospital.table = pd.DataFrame()
    with pytest.raises(SilenceError):
        hospital.ask(hospital.questions()[0])
    assert clock.time == hospital.dues[0].steps[0].moment
    assert hospital.dues[0].steps[0].seconds > 1.0


@pytest.mark.parametrize("kind", ["survival", "continuous", "binary"])
@pytest.mark.parametrize("training", [{}, {"schedule": "sampled", "strategy": "fedavg"}])
def test_a_larger_declaration_never_shortens_the_time(kind: str, training: dict[str, Any]) -> None:
    study = make_study(kind, **training)
    paces = [pace_of(study, declared, declared) for declared in (10, 64, 1000, 20_000, 10**6)]
    for smaller, larger in pairwise(paces):
        assert smaller.first <= larger.first
        assert all(smaller.work[name] <= larger.work[name] for name in smaller.work)
    assert all(
        seconds % 0.25 == 0 for each in paces for seconds in (each.first, *each.work.values())
    )
