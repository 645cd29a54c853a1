"""The journal is a witness for the ledger: what it says left must be charged there, in any mode."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.gate import Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.ledger.entries import Planned
from polyclinic_client.ledger.journalled import UNMASKED, check_journalled
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.recovery import Recovery, recover
from polyclinic_client.ledger.replay import replay
from polyclinic_client.records.journal import Failed, Journal, Left, Noted
from polyclinic_client.run.responder import Responder
from polyclinic_client.run.update_responder import Memory, UpdateResponder
from polyclinic_client.worker.site_book import open_sites
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Vote
from polyclinic_common.release_id import VOTE
from polyclinic_common.wire import CastVote, PrivateUpdate, TrainRequest, encode_request
from tests.kits.gate import Draws, FakeClock, House, both_kinds, make_house, permitted, sha
from tests.kits.ledger import (
    DELTA,
    FALLBACK,
    ME,
    STUDY,
    digest,
    draw,
    release,
    request,
)
from tests.kits.typed import output

SCRIPT = Path(__file__).parents[2] / "docs" / "replay.py"
MEMORY = Path("/dev/shm")  # noqa: S108


class Hospital:
    """A site of mode local in its folder; its ledger alone can be copied and put back."""

    def __init__(self, folder: Path, **approval: Any):
        self.path = folder / "site"
        self.copies = folder / "copies"
        self.draws = Draws()
        self.house = make_house(self.path, **approval)

    @property
    def ledger_path(self) -> Path:
        return self.path / "ledger.sqlite"

    def answer(self, number: int, run: str = "run") -> None:
        """Have a round asked for: draw, charge and let out; again what is stored."""
        mechanisms = {"update": self.draws}
        ledger = self.house.ledger
        updates = UpdateResponder(STUDY, 4, 9, personal=False, ledger=ledger, mechanisms=mechanisms)
        site = Responder(STUDY.hex(), run, updates, self.house.gate, self.house.journal)
        asked = TrainRequest(STUDY.hex(), run, number, "update", np.full(4, float(number)))
        site.answer(encode_request(asked), Memory())

    def copy(self) -> None:
        shutil.rmtree(self.copies, ignore_errors=True)
        self.house.ledger._log.checkpoint()
        self.copies.mkdir()
        shutil.copy(self.ledger_path, self.copies)

    def put_back(self) -> None:
        """Put the copy of the ledger back, and open the folder as nothing of the product does."""
        self.house.folder.close()
        for file in self.path.glob("ledger.sqlite*"):
            file.unlink()
        shutil.copy(self.copies / "ledger.sqlite", self.ledger_path)
        self.open()

    def open(self) -> None:
        folder = SiteFolder.open(self.path)
        ladder = Ladder()
        gate = Gate(permitted(folder.ledger), folder.journal, ladder, FakeClock())
        self.house = House(folder, FakeClock(), gate, ladder)

    def check(self) -> None:
        check_journalled(self.house.ledger, self.house.journal.events())

    def recover(self, *, charge_lost: bool = False) -> Recovery:
        self.house.folder.close()
        try:
            with Journal.open(self.path / "journal.sqlite", ME, read_only=True) as journal:
                events = journal.events()
                return recover(self.ledger_path, ME, journal=events, charge_lost=charge_lost)
        finally:
            self.open()

    def spent(self) -> float:
        return self.house.ledger.budget().spent


def epsilon(releases: int) -> float:
    return spent_epsilon({FALLBACK: releases}, DELTA)


def refusal(action: Callable[..., object], *arguments: object, **named: object) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        action(*arguments, **named)
    return caught.value


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def left(house: House) -> list[Left]:
    return [each for each in house.events() if isinstance(each, Left) and each.cost is not None]


# What the journal keeps


def test_what_left_names_the_ledgers_row_and_again_the_same(hospital: Hospital) -> None:
    for number in (1, 1, 2):
        hospital.answer(number)
    ledger = hospital.house.ledger
    first, again, second = left(hospital.house)
    assert first.row == again.row == ledger.charged_at(release(1, kind="update"))
    assert second.row == ledger.charged_at(release(2, kind="update"))
    for noted in (first, second):
        assert noted.row is not None
        assert ledger.holds(noted.row)
        (row,) = (row for row in ledger.export_rows() if row.sequence == noted.ledger_row)
        assert digest_of_vector(row.body) not in noted.body()
        assert row.hash.hex().encode() not in noted.body()


def digest_of_vector(body: bytes) -> bytes:
    return str(json.loads(body)["vector"]).encode()


def test_a_free_release_names_no_row(hospital: Hospital) -> None:
    hospital.answer(99)  # refused
    (refused,) = (each for each in hospital.house.events() if isinstance(each, Left))
    assert (refused.ledger_row, refused.ledger_digest, refused.row) == (0, None, None)


def test_rows_of_an_older_journal_are_read(hospital: Hospital) -> None:
    hospital.answer(1)
    (noted,) = left(hospital.house)
    plain = json.loads(noted.body())
    del plain["ledger_row"], plain["ledger_digest"]
    older = Left.model_validate_json(json.dumps(plain))
    assert older.row is None
    again = [Noted(number, 1, each) for number, each in enumerate((older, older, noted))]
    for journal in (again[:2], again):
        check_journalled(hospital.house.ledger, journal)
        found = replay(journal, hospital.house.ledger)
        assert (found.releases, found.drawn_again) == (1, ())


# At the start


def test_a_ledger_put_back_under_its_journal_lets_nothing_leave(hospital: Hospital) -> None:
    """Mode local: no peer and no witness file is there to notice."""
    hospital.answer(1)
    hospital.copy()
    hospital.check()
    hospital.answer(2)
    hospital.check()
    hospital.put_back()
    assert refusal(hospital.check).code == Code.LEDGER_BEHIND
    hospital.house.folder.close()
    assert refusal(open_sites, hospital.path).code == Code.LEDGER_BEHIND
    hospital.open()
    failed = [each.code for each in hospital.house.events() if isinstance(each, Failed)]
    assert failed == ["L006"]


def test_the_remedy_that_is_named_is_one(hospital: Hospital) -> None:
    hospital.copy()
    hospital.answer(1)
    rows = hospital.house.ledger.export_rows()
    hospital.put_back()
    told = refusal(hospital.check).remedy
    assert "ledger recover" in told
    assert "--charge-lost" in refusal(hospital.recover).remedy
    hospital.recover(charge_lost=True)
    hospital.check()
    hospital.put_back()
    assert refusal(hospital.check).code == Code.LEDGER_BEHIND
    hospital.house.folder.close()
    assert recover(hospital.ledger_path, ME, rows=rows) == Recovery(2, 0)
    hospital.open()
    hospital.check()


def test_a_ledger_that_says_something_else_of_a_row_is_refused(hospital: Hospital) -> None:
    hospital.answer(1)
    (noted,) = left(hospital.house)
    for changes in (
        {"cost": FALLBACK.model_copy(update={"sensitivity": 601.0})},
        {"round_number": 2},
        {"ledger_row": noted.ledger_row - 1},
        {"ledger_digest": digest("another")},
    ):
        changed = noted.model_copy(update=changes)
        wrong = refusal(check_journalled, hospital.house.ledger, [Noted(1, 1, changed)])
        assert wrong.code == Code.LEDGER_BEHIND


# Two draws of one release


def test_two_draws_of_one_release_both_count_and_are_an_error(hospital: Hospital) -> None:
    """As an earlier version went on: the copy draws and charges the round a second time."""
    hospital.copy()
    for _ in range(2):
        hospital.answer(1)
    hospital.put_back()
    for _ in range(2):
        hospital.answer(1)
    first, _, second, _ = left(hospital.house)
    assert first.sha256 != second.sha256
    assert first.ledger_row == second.ledger_row  # the number alone does not tell
    wrong = refusal(replay, hospital.house.journal.events(), hospital.house.ledger)
    assert wrong.code == Code.LEDGER_SHORT
    assert "update of round 1 of run run" in wrong.what
    assert f"{epsilon(2):.6f}" in wrong.what
    assert hospital.spent() == epsilon(1)
    script = by_script(hospital.path)
    assert script.returncode != 0
    assert "L009 update of round 1 of run run: 2 draws" in script.stderr
    assert json.loads(script.stdout)["releases"] == 2
    assert json.loads(script.stdout)["spent"] == pytest.approx(epsilon(2), rel=1e-9)


def test_two_draws_of_one_vote_both_count_whatever_they_say(hospital: Hospital) -> None:
    """Both votes are the same byte: only the ledger's rows tell them apart."""
    charge = Vote(epsilon=0.5)
    item = Planned(kind=VOTE, releases=1, headline=charge, fallback=charge)
    hospital.house.ledger.approve(both_kinds(run="voting", planned=(item,)))
    hospital.copy()
    for put_back in (False, True):
        if put_back:
            hospital.put_back()
        vote(hospital)
    one, other = left(hospital.house)
    assert one.sha256 == other.sha256
    wrong = refusal(replay, hospital.house.journal.events(), hospital.house.ledger)
    assert wrong.code == Code.LEDGER_SHORT
    assert json.loads(by_script(hospital.path).stdout)["releases"] == 2


def vote(hospital: Hospital) -> None:
    name, ledger = release(1, "voting", VOTE), hospital.house.ledger
    charge = Vote(epsilon=0.5)
    same = request(1, headline=charge, fallback=charge)
    ledger.reserve(name, STUDY, vector=np.array([1], dtype=np.int64), **same)
    payload = sha(np.array([1], dtype=np.uint8))
    ledger.record_attempt(name, epoch=b"", chain=(), payload_hash=payload)
    hospital.house.let_out(CastVote(STUDY.hex(), "voting", 1, 1))


def test_two_private_updates_in_an_older_journal_are_told_by_their_bytes(
    hospital: Hospital,
) -> None:
    assert PrivateUpdate.label == UNMASKED
    older = Left(
        kind=UNMASKED,
        sum="update",
        size=8,
        sha256=digest("bytes"),
        run="run",
        round_number=1,
        cost=FALLBACK,
        tick=1,
    )
    other = older.model_copy(update={"sha256": digest("other bytes")})
    hospital.house.journal.write(older, older, other)
    wrong = refusal(replay, hospital.house.journal.events(), hospital.house.ledger)
    assert wrong.code == Code.LEDGER_SHORT
    assert f"{epsilon(2):.6f}" in wrong.what
    assert json.loads(by_script(hospital.path).stdout)["releases"] == 2


def by_script(site: Path) -> subprocess.CompletedProcess[str]:
    exported = site / "exported.json"
    exported.write_text(output("client", "journal", "show", "--site", site, "--json"))
    script = [sys.executable, "-I", str(SCRIPT), str(exported), str(DELTA)]
    return subprocess.run(script, capture_output=True, text=True, check=False)


# Recovery


def test_what_left_and_is_lost_is_charged_once(hospital: Hospital) -> None:
    """Five of six updates and six gradients were outstanding: they are charged, and not more."""
    hospital.answer(1)
    hospital.copy()
    hospital.answer(2)
    hospital.answer(3)
    hospital.put_back()
    assert hospital.recover(charge_lost=True).charged == 5 + 6
    assert hospital.spent() == epsilon(12)
    hospital.check()
    assert hospital.recover(charge_lost=True) == Recovery(0, 0)
    found = replay(hospital.house.journal.events(), hospital.house.ledger)
    assert (found.releases, found.drawn_again) == (3, ())
    assert found.spent == epsilon(3)


def test_what_left_under_an_approval_that_is_lost_as_well_is_charged(hospital: Hospital) -> None:
    hospital.copy()
    ledger = hospital.house.ledger
    ledger.approve(both_kinds(run="later", planned=(both_kinds().planned[1],)))
    hospital.answer(1)
    for number in (1, 2):
        hospital.answer(number, "later")
    hospital.put_back()
    assert hospital.recover(charge_lost=True).charged == 12 + 2
    assert hospital.spent() == epsilon(14)
    hospital.check()


def test_a_release_drawn_again_after_the_loss_was_declared_is_told_and_no_error(
    tmp_path: Path,
) -> None:
    hospital = Hospital(tmp_path, run=None)
    hospital.copy()
    hospital.answer(1)
    hospital.put_back()
    charged = hospital.recover(charge_lost=True).charged
    hospital.house.ledger.approve(both_kinds(run="run"))
    hospital.answer(1)
    hospital.check()
    found = replay(hospital.house.journal.events(), hospital.house.ledger)
    assert found.drawn_again == (str(release(1, kind="update")),)
    assert found.spent == epsilon(2)
    assert found.ledger_spent == epsilon(charged + 1)


def test_a_copy_that_was_written_to_is_charged_from_the_fork_on(hospital: Hospital) -> None:
    """The approval was withdrawn on the copy: on the lost branch, which is longer, it went on."""
    hospital.answer(1)
    hospital.copy()
    for cap in (98.0, 99.0):
        hospital.house.ledger.set_caps(cap)
    for number in (2, 3, 4, 5):
        hospital.answer(number)
    hospital.put_back()
    hospital.house.ledger.withdraw(STUDY, "run")
    assert hospital.recover(charge_lost=True).charged == 5 + 6
    hospital.check()
    found = replay(hospital.house.journal.events(), hospital.house.ledger)
    assert found.releases == 5
    assert found.ledger_spent == epsilon(12)


def test_both_branches_of_a_fork_are_charged(hospital: Hospital) -> None:
    """As an earlier version went on: rounds 1 to 3 left, and 1 and 2 once more from the copy."""
    hospital.copy()
    for number in (1, 2, 3):
        hospital.answer(number)
    hospital.put_back()
    for number in (1, 2):
        hospital.answer(number)
    hospital.recover(charge_lost=True)
    hospital.check()
    found = replay(hospital.house.journal.events(), hospital.house.ledger)
    assert found.releases == 5
    assert found.drawn_again == tuple(str(release(number, kind="update")) for number in (1, 2))
    assert found.spent == epsilon(5) < found.ledger_spent


def test_a_second_copy_put_back_after_a_recovery_is_seen_as_well(hospital: Hospital) -> None:
    hospital.answer(1)
    hospital.copy()
    hospital.answer(2)
    hospital.put_back()
    hospital.recover(charge_lost=True)
    hospital.house.ledger.approve(both_kinds(run="later", planned=(both_kinds().planned[1],)))
    hospital.answer(1, "later")
    hospital.check()
    hospital.put_back()
    assert refusal(hospital.check).code == Code.LEDGER_BEHIND
    hospital.recover(charge_lost=True)
    hospital.check()
    assert hospital.spent() >= epsilon(3)


def test_the_ledger_may_hold_more_than_left(hospital: Hospital) -> None:
    same = request(3, headline=FALLBACK)
    name = release(3, kind="update")
    hospital.house.ledger.reserve(name, STUDY, vector=draw(9), **same)
    hospital.check()
    with Ledger.open(hospital.ledger_path, ME) as ledger:
        assert ledger.budget().spent == epsilon(1)


STEPS = ("answer", "answer", "again", "copy", "put back", "approve", "withdraw")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=16))
def test_whatever_is_put_back_nothing_that_left_goes_uncounted(steps: list[str]) -> None:
    """Without peers and without a witness file: the journal alone finds it out at every start."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        hospital = Hospital(Path(folder))
        hospital.copy()
        number, run = 0, "run"
        for step in steps:
            with suppress(LedgerError):
                match step:
                    case "answer" | "again":
                        number += step == "answer"
                        hospital.answer(max(1, number), run)
                    case "approve":
                        run = f"run {len(hospital.house.events())}"
                        hospital.house.ledger.approve(both_kinds(run=run))
                    case "withdraw":
                        hospital.house.ledger.withdraw(STUDY, run)
                    case "copy":
                        hospital.copy()
            if step == "put back":
                start_from_the_copy(hospital)
            draws = {noted.sha256 for noted in left(hospital.house)}
            assert hospital.spent() >= epsilon(len(draws)) - 1e-9
        found = replay(hospital.house.journal.events(), hospital.house.ledger)
        assert found.releases == len(draws)
        hospital.house.folder.close()


def start_from_the_copy(hospital: Hospital) -> None:
    """Put the copy back; as the node does, refuse if anything that left is not charged in it."""
    counted = {noted.row for noted in left(hospital.house)}
    hospital.put_back()
    ledger = hospital.house.ledger
    if all(ledger.knows(row) for row in counted if row is not None):
        hospital.check()
        return
    assert refusal(hospital.check).code == Code.LEDGER_BEHIND
    hospital.recover(charge_lost=True)
    hospital.check()
