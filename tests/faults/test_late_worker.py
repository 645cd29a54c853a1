"""A worker that dies or hangs tells the server nothing by when it does, and late rows tell nothing.

Real worker processes; what they answer with is planted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import RecordDict

from polyclinic_client.backup.row_keeper import RowKeeper
from polyclinic_client.folder.layout import JOURNAL, LEDGER
from polyclinic_client.gate.due import OVER, Due, Rung
from polyclinic_client.node.at_rest import GRID_S
from polyclinic_client.node.fleet import Fleet, Received, to_bytes
from polyclinic_client.node.node import Node
from polyclinic_client.node.rest import Rest
from polyclinic_client.node.status import StatusFile
from polyclinic_client.node.warm_worker import LostWorkerError, WarmWorker
from polyclinic_client.records.journal import Climbed, Failed, Journal
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.identity.site_key import Identity

STUDY = b"s" * 32
CONTENT = to_bytes(RecordDict())


def due_in(*seconds: float, end: float) -> Due:
    """Return steps that are left in so many seconds from now."""
    now = time.time()
    steps = tuple(Rung(number, 4.0**number, now + each) for number, each in enumerate(seconds))
    return Due(steps, True, now + end, STUDY, "run")


class Planted:
    """Says when its answer leaves, and then dies or hangs."""

    def __init__(self, folder: Path):
        self.folder = folder

    def answer(
        self, content: RecordDict, memory: Memory, tell: Callable[[Due], object]
    ) -> RecordDict:
        tell(Due.from_bytes((self.folder / "due").read_bytes()))
        if (self.folder / "dies").exists():
            os._exit(1)
        time.sleep(600)
        return content


def planted(folder: Path, due: Due, *, dies: bool) -> WarmWorker:
    folder.mkdir(exist_ok=True)
    (folder / "due").write_bytes(due.to_bytes())
    if dies:
        (folder / "dies").touch()
    return WarmWorker("tests.faults.test_late_worker:Planted", folder, 300.0, 60.0)


@pytest.fixture
def start_s(tmp_path: Path) -> float:
    """Return what a worker needs here to start, generously: moments lie beyond it."""
    began = time.monotonic()
    with pytest.raises(LostWorkerError):
        planted(tmp_path / "first", due_in(0.0, end=0.0), dies=True).ask(1, CONTENT)
    return 3.0 * (time.monotonic() - began) + 1.0


def test_a_worker_that_dies_is_not_missed_before_its_answer_is_due(
    tmp_path: Path, start_s: float
) -> None:
    due = due_in(start_s, end=100.0)
    with pytest.raises(LostWorkerError) as lost:
        planted(tmp_path, due, dies=True).ask(1, CONTENT)
    assert time.time() >= due.steps[0].moment
    assert lost.value.climbed is None


def test_a_worker_that_dies_late_is_missed_on_a_higher_step(tmp_path: Path, start_s: float) -> None:
    due = due_in(0.0, start_s, end=100.0)
    with pytest.raises(LostWorkerError) as lost:
        planted(tmp_path, due, dies=True).ask(1, CONTENT)
    assert time.time() >= due.steps[1].moment
    assert lost.value.climbed == Climbed(study_hash=STUDY, run="run", step=1, outlasted=1000)


def test_a_worker_that_hangs_is_ended_at_a_public_moment_and_the_journal_says_so(
    tmp_path: Path, start_s: float
) -> None:
    due = due_in(0.0, end=start_s)
    worker = planted(tmp_path, due, dies=False)
    with Journal.create(tmp_path / JOURNAL, Identity.generate()) as journal:
        nobody = cast(Fleet, None)
        node = Node(nobody, worker, journal, StatusFile(tmp_path, os.getpid()), runs={1})
        node._handle(Received(cast(Any, None), CONTENT, 1))
        failed, climbed = (noted.event for noted in journal.events(1))
        assert journal.climbs() == {STUDY: climbed}
    assert time.time() >= due.end
    assert worker.pid is None
    assert failed == Failed(code="N002")
    assert climbed == Climbed(study_hash=STUDY, run="run", step=OVER, outlasted=1000)


# Rows of the ledger


class Elsewhen:
    """A clock that sleeping moves, and nothing else."""

    def __init__(self) -> None:
        self.now = 1_800_000_003.0
        self.on_sleep: list[Callable[[], object]] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if not self.on_sleep:
            raise StopIteration
        self.on_sleep.pop(0)()
        self.now += seconds


@pytest.fixture
def clock() -> Elsewhen:
    return Elsewhen()


class Kept:
    """A row keeper whose sending is counted: when it was."""

    def __init__(self, folder: Path, clock: Elsewhen, monkeypatch: pytest.MonkeyPatch):
        self.ledger, self.clock, self.rest = folder / LEDGER, clock, Rest(clock.time)
        self.keeper = RowKeeper(folder, self.rest, clock.time, clock.sleep)
        self.sent = list[float]()
        monkeypatch.setattr(self.keeper, "_keep", self.send)
        self.write(1.0)

    def send(self) -> bool:
        """Stand for sending rows."""
        self.sent.append(self.clock.now)
        return True

    def write(self, moment: float) -> None:
        """Write a row at a moment of the disk's own."""
        self.ledger.touch()
        os.utime(self.ledger, (moment, moment))

    def run(self, *between: Callable[[], object]) -> None:
        """Let it look, with something happening before each poll."""
        self.clock.on_sleep = list(between)
        with pytest.raises(StopIteration):
            self.keeper.run()


@pytest.fixture
def kept(tmp_path: Path, clock: Elsewhen, monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(tmp_path, clock, monkeypatch)


def nothing() -> None:
    """Happens."""


def test_rows_leave_at_moments_that_follow_from_the_last_answer_alone(
    kept: Kept, clock: Elsewhen
) -> None:
    """However long before that a row was written: the disk's time decides nothing."""
    kept.run(nothing, nothing, nothing)
    found = []
    for written in (0.7, 3.0, 9.9, 10.1, 60.0):
        kept.sent.clear()
        clock.now = 1_800_000_003.0
        kept.write(clock.now + written)
        with kept.rest.broken():
            clock.now += 4.0  # the tick on which the answer left
        kept.run(nothing, nothing, nothing, nothing)
        found.append(tuple(kept.sent))
    assert set(found) == {(1_800_000_020.0,)}


def test_rows_of_an_answer_that_has_not_left_stay(kept: Kept, clock: Elsewhen) -> None:
    """The keeper waits while a message is answered, and rests anew from the answer's tick."""
    handling, may_end = threading.Event(), threading.Event()

    def handle() -> None:
        with kept.rest.broken():
            handling.set()
            may_end.wait(30)

    node = threading.Thread(target=handle)
    node.start()
    assert handling.wait(30)
    clock.now += 1000.0
    looking = threading.Thread(target=kept.keeper.look, args=(GRID_S,))
    looking.start()
    looking.join(timeout=0.3)
    assert looking.is_alive()
    assert not kept.sent
    may_end.set()
    looking.join(timeout=30)
    node.join(timeout=30)
    assert not kept.sent
    clock.now += GRID_S
    kept.keeper.look(GRID_S)
    assert kept.sent == [clock.now]


def test_no_message_is_answered_while_rows_are_sent(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    def handle() -> None:
        with kept.rest.broken():
            answered.set()

    node = threading.Thread(target=handle)

    def send() -> bool:
        node.start()
        return not answered.wait(0.3)

    monkeypatch.setattr(kept.keeper, "_keep", send)
    kept.keeper.look()
    node.join(timeout=30)
    assert answered.is_set()
    assert kept.keeper._kept_at == 1.0, "answered meanwhile"


def test_a_node_that_is_stopped_in_the_middle_of_an_answer_sends_no_rows(kept: Kept) -> None:
    """Whether there is one would tell how far computing had come."""
    with pytest.raises(KeyboardInterrupt), kept.rest.broken():
        raise KeyboardInterrupt
    kept.keeper.look()
    assert not kept.sent


def test_after_an_answer_that_the_network_lost_rows_leave_as_after_any(
    kept: Kept, clock: Elsewhen
) -> None:
    with pytest.raises(ConnectionError), kept.rest.broken():
        raise ConnectionError
    kept.run(nothing, nothing)
    assert kept.sent == [1_800_000_020.0]
    kept.write(2.0)  # a person's own command: sent at the next poll
    kept.run(nothing)
    assert kept.sent[1:] == [1_800_000_030.0]
