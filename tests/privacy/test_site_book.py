"""What a hospital's worker answers before it has looked at patients, and what it never does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.due import Due
from polyclinic_client.gate.gate import Gate
from polyclinic_client.records.journal import Failed
from polyclinic_client.run.approved_study import ApprovedStudy, approved_with
from polyclinic_client.run.refusals import SilenceError
from polyclinic_client.run.update_responder import Memory
from polyclinic_client.worker import site_book
from polyclinic_client.worker.site_book import SiteBook
from polyclinic_common.identity.roster import Roster
from polyclinic_common.wire import (
    AnnouncedKeys,
    OpenRequest,
    Reason,
    Refusal,
    Release,
    Request,
    SettleRequest,
    decode_reply,
    encode_request,
)
from tests.kits.consortium import Consortium
from tests.kits.gate import FakeClock
from tests.kits.small import small_table

RUNS = ("run-1", "run-2", "run-3")


class Worker:
    """One hospital's site book, over its real folder; what it does is written down in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        house, clock = Consortium(folder, sites=3, runs=RUNS), FakeClock()
        self.study, self.order = house.study.hash(), list[str]()
        self.away, self.looked_up = False, 0
        self.folder = SiteFolder.open(house.site_folder("site 0"))
        table = small_table(120, sites=3)
        rows = table[table["site"] == "site 0"] if "site" in table else table
        keys = {name: SiteFolder.open(house.site_folder(name)) for name in house.names[1:]}
        roster = Roster.of(
            {"site 0": self.folder.identity.public}
            | {name: each.identity.public for name, each in keys.items()}
        )
        for each in keys.values():
            each.close()

        def read() -> pd.DataFrame:
            self.order.append("table")
            return rows

        def find(study_hash: str) -> ApprovedStudy | None:
            """A new one every time, as from the disk."""
            if study_hash != self.study or self.away:
                return None
            self.looked_up += 1
            verified = frozenset(roster.identities)
            return approved_with(house.study, roster, verified, house.declared, "site 0", read)

        due = Gate.due

        def noted(gate: Gate, request: Request | None = None, *, first: bool = False) -> Due:
            if request is not None:
                self.order.append("due")
            return due(gate, request, first=first)

        monkeypatch.setattr(Gate, "due", noted)
        self.book, self.clock = SiteBook(self.folder, find, clock), clock

    def ask(self, request: Request) -> Release:
        return decode_reply(self.book.answer(encode_request(request), Memory()))


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    made = Worker(tmp_path, monkeypatch)
    yield made
    made.folder.close()


def test_the_tick_is_fixed_before_the_table_is_read(worker: Worker) -> None:
    """How long reading takes tells how many patients there are."""
    assert isinstance(worker.ask(OpenRequest(worker.study, "run-1")), AnnouncedKeys)
    assert worker.order == ["due", "due", "table"]


def test_the_table_is_read_once_however_many_runs_ask(worker: Worker) -> None:
    for run in RUNS:
        worker.ask(OpenRequest(worker.study, run))
    assert worker.order == ["due", "due", "table", *["due"] * 4]


def test_what_is_not_approved_reads_no_table(worker: Worker) -> None:
    for request in (OpenRequest("00" * 32, "run-1"), OpenRequest(worker.study, "another")):
        assert worker.ask(request) == Refusal(Reason.NOT_APPROVED)
    assert "table" not in worker.order


def test_a_run_without_releases_is_not_settled(worker: Worker) -> None:
    """Else every invented name of a run would add a row to the ledger."""
    worker.ask(OpenRequest(worker.study, "run-1"))
    rows = worker.folder.ledger.head().counter
    for run in ("run-1", "run-2"):
        said = worker.ask(SettleRequest(worker.study, run, ()))
        assert said == Refusal(Reason.OUT_OF_ORDER)
    assert worker.folder.ledger.head().counter == rows


def test_a_withdrawn_approval_ends_the_exchange_of_keys(worker: Worker) -> None:
    assert isinstance(worker.ask(OpenRequest(worker.study, "run-1")), AnnouncedKeys)
    worker.folder.ledger.withdraw(bytes.fromhex(worker.study), "run-1")
    assert worker.ask(OpenRequest(worker.study, "run-1")) == Refusal(Reason.NOT_APPROVED)


def test_an_approval_that_expires_ends_a_run_that_is_under_way(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(worker.ask(OpenRequest(worker.study, "run-1")), AnnouncedKeys)
    study = bytes.fromhex(worker.study)
    approval = worker.folder.ledger.approval(study, "run-1")
    assert approval is not None
    after = approval.expires + dt.timedelta(days=1)
    monkeypatch.setattr(type(worker.folder.ledger), "today", lambda _: after)
    assert worker.ask(OpenRequest(worker.study, "run-1")) == Refusal(Reason.NOT_APPROVED)


def test_what_was_approved_is_read_once_a_run(worker: Worker) -> None:
    for _ in range(3):
        for run in RUNS[:2]:
            worker.ask(OpenRequest(worker.study, run))
    assert worker.looked_up == 2


def test_a_run_goes_on_once_its_study_is_approved_again(worker: Worker) -> None:
    """Although in between another run found it not approved."""
    assert isinstance(worker.ask(OpenRequest(worker.study, "run-1")), AnnouncedKeys)
    worker.away = True
    assert worker.ask(OpenRequest(worker.study, "run-2")) == Refusal(Reason.NOT_APPROVED)
    worker.away = False
    assert isinstance(worker.ask(OpenRequest(worker.study, "run-1")), AnnouncedKeys)


@pytest.mark.parametrize("error", [RecursionError, TypeError, OverflowError])
@pytest.mark.parametrize("part", ["decode_request", "make_site"])
def test_whatever_fails_before_a_site_answers_is_silence_and_journalled(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: type[Exception], part: str
) -> None:
    def broken(*_: object) -> None:
        raise error("secret")

    monkeypatch.setattr(site_book, part, broken)
    with pytest.raises(SilenceError):
        worker.ask(OpenRequest(worker.study, "run-1"))
    noted = [each.event for each in worker.folder.journal.events()]
    assert [each.code for each in noted if isinstance(each, Failed)] == [error.__name__]
