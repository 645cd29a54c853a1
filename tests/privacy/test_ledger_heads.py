"""Heads of a ledger: nobody but the hospital makes one, and an invented number does no harm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from polyclinic_client.ledger.entries import HeadsSeen, SeenHead
from polyclinic_client.ledger.heads import FARTHEST, HeadMaker
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.recovery import Recovery, recover
from polyclinic_client.ledger.state import LedgerState
from polyclinic_client.ledger.witness import read_claims, read_invented, write_claim
from polyclinic_client.records.entry import LedgerHead
from polyclinic_common.errors import Code, LedgerError, MessageError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.packing import pack
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.secure_sum.statements import MOST_ROWS, KeyAnnouncement
from tests.kits.copies import copy_of, put_back
from tests.kits.ledger import (
    DELTA,
    FALLBACK,
    ME,
    PEERS,
    approval,
    attempt,
    digest,
    make_ledger,
    open_ledger,
    reserve,
)

ABSURD = (2**63 - 1, 2**63 - 2, MOST_ROWS + 1, FARTHEST + 100)


def refused(action: Callable[..., object], *arguments: object, **named: object) -> str:
    with pytest.raises(LedgerError) as caught:
        action(*arguments, **named)
    return caught.value.code


# What a hospital believes of its own ledger


@pytest.mark.parametrize("counter", ABSURD)
def test_an_invented_head_is_ignored_noted_and_needs_no_recovery(
    tmp_path: Path, counter: int
) -> None:
    invented = LedgerHead(counter, bytes(32))
    with make_ledger(tmp_path) as ledger:
        reserve(ledger, 1)
        ledger.hear({PEERS[0]: invented, PEERS[1]: ledger.head()})
        assert read_invented(ledger.path) == {PEERS[0]: invented}
        assert read_claims(ledger.path) == []
    done = recover(tmp_path / "ledger.sqlite", ME, claims=[invented], charge_lost=True)
    assert done == Recovery(0, 0)
    with open_ledger(tmp_path) as ledger:
        reserve(ledger, 2)
        ledger.set_caps(99.0)
        assert ledger.head().counter < 10
        ledger.hear({PEERS[0]: ledger.head()})  # it has come to its senses
        assert read_invented(ledger.path) == {}


def test_a_claim_kept_by_an_earlier_version_is_judged_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    make_ledger(tmp_path).close()
    write_claim(path, LedgerHead(2**63 - 1, bytes(32)))
    assert recover(path, ME, claims=read_claims(path), charge_lost=True) == Recovery(0, 0)


def test_who_invents_does_not_hide_who_has_seen_more(tmp_path: Path) -> None:
    with make_ledger(tmp_path) as ledger:
        seen = LedgerHead(ledger.head().counter + 3, digest("seen by another"))
        told = {PEERS[0]: LedgerHead(2**63 - 1, bytes(32)), PEERS[1]: seen}
        assert refused(ledger.hear, told) == Code.LEDGER_BEHIND
        assert read_claims(ledger.path) == [seen]
        assert set(read_invented(ledger.path)) == {PEERS[0]}


def test_nobody_else_makes_a_head_of_this_hospital(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    own, salt = HeadMaker(ME, ledger.salt), ledger.salt
    head = ledger.head()
    assert own.made(head)
    assert HeadMaker(ME, bytes(32)).made(head), "a later ledger must know it too"
    assert not HeadMaker(Identity.generate(), salt).made(head)
    for wrong in (
        LedgerHead(head.counter + 1, head.digest),
        LedgerHead(head.counter, head.digest[:-1] + bytes([head.digest[-1] ^ 1])),
        LedgerHead(head.counter, bytes([head.digest[0] ^ 1]) + head.digest[1:]),
        LedgerHead(head.counter, bytes(32)),
        LedgerHead(0, b""),
    ):
        assert not own.made(wrong)


def test_a_head_of_the_ledger_before_is_believed_however_far_it_is(tmp_path: Path) -> None:
    """A new ledger, not declared as one: what peers saw of the old one stops it."""
    far = HeadMaker(ME, digest("the salt of a ledger that is gone")).head(MOST_ROWS, bytes(32))
    with make_ledger(tmp_path) as ledger:
        assert refused(ledger.hear, {PEERS[0]: far}) == Code.LEDGER_BEHIND
        assert read_invented(ledger.path) == {}


def test_a_new_ledger_does_not_begin_at_an_invented_number(tmp_path: Path) -> None:
    more = {"declared_reset": True, "approve": False}
    known = [LedgerHead(2**63 - 1, bytes(32)), LedgerHead(7, digest("old"))]
    with make_ledger(tmp_path, known=known, **more) as ledger:
        assert ledger.head().counter == 8


def test_heads_of_earlier_versions_are_those_of_the_history(tmp_path: Path) -> None:
    """Peers, and a witness, may hold the whole salted hash, without a mark."""
    with make_ledger(tmp_path) as ledger:
        row = ledger.export_rows()[-1]
        content = pack(["polyclinic ledger head", ledger.salt, row.sequence, row.hash])
        older = LedgerHead(row.sequence, hashlib.sha256(content).digest())
        reserve(ledger, 1)
        ledger.check_not_behind([older])
        other = LedgerHead(row.sequence, digest("of another branch"))
        assert refused(ledger.check_not_behind, [other]) == Code.LEDGER_BEHIND


# Numbers that jump, and copies from before


def test_a_copy_from_before_a_jump_is_behind_however_far_the_jump_was(tmp_path: Path) -> None:
    """A liar drives the numbers on as far as it can; later an old copy is put back by mistake."""
    path = tmp_path / "ledger.sqlite"
    with make_ledger(tmp_path) as ledger:
        lie = LedgerHead(ledger.head().counter + FARTHEST, bytes(32))
    copy_of(tmp_path, "first")
    assert recover(path, ME, claims=[lie], charge_lost=True).charged == 6
    with open_ledger(tmp_path) as ledger:
        assert ledger.head().counter == lie.counter + 1
        ledger.approve(approval(run="later"))
        copy_of(tmp_path, "second")
        reserve(ledger, 1, run="later")
        true = ledger.head()
    put_back(tmp_path, "first")
    with open_ledger(tmp_path) as ledger:
        assert true.counter > ledger.head().counter + FARTHEST
        assert refused(ledger.hear, {PEERS[0]: true}) == Code.LEDGER_BEHIND
    put_back(tmp_path, "second")
    with open_ledger(tmp_path) as ledger:
        assert refused(ledger.hear, {PEERS[0]: true}) == Code.LEDGER_BEHIND
    put_back(tmp_path, "first")
    assert refused(recover, path, ME, claims=[true]) == Code.LEDGER_BEHIND
    assert recover(path, ME, claims=[true], charge_lost=True).charged == 6
    with open_ledger(tmp_path) as ledger:
        ledger.hear({PEERS[0]: true, PEERS[1]: lie})
        assert ledger.head().counter > true.counter  # or peers would take it for an old copy


def test_after_a_loss_was_declared_a_second_copy_is_behind(tmp_path: Path) -> None:
    """Rows go on after every number that was seen: else new rows would pass as the lost ones."""
    path = tmp_path / "ledger.sqlite"
    with make_ledger(tmp_path):
        copy_of(tmp_path, "first")
    with open_ledger(tmp_path) as ledger:
        for number in (1, 2, 3):
            reserve(ledger, number)
            attempt(ledger, number)
        lost = ledger.head()
    put_back(tmp_path, "first")
    recover(path, ME, claims=[lost], charge_lost=True)
    with open_ledger(tmp_path) as ledger:
        assert ledger.head().counter > lost.counter
        ledger.approve(approval(run="later"))
        copy_of(tmp_path, "second")
        reserve(ledger, 1, run="later")
        later = ledger.head()
    put_back(tmp_path, "second")
    with open_ledger(tmp_path) as ledger:
        ledger.check_not_behind([lost])
        assert refused(ledger.check_not_behind, [lost, later]) == Code.LEDGER_BEHIND
        assert ledger.budget().spent == spent_epsilon({FALLBACK: 6}, DELTA)


# What it keeps of others


def test_a_head_that_no_ledger_can_reach_is_not_kept(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.note_heads({PEERS[0]: (2**63 - 1, bytes(32)), PEERS[1]: (3, digest("head"))})
    assert ledger.heads_seen == {PEERS[1]: LedgerHead(3, digest("head"))}
    before = ledger.head()
    ledger.note_heads({PEERS[0]: (MOST_ROWS + 1, bytes(32))})
    assert ledger.head() == before, "else a row would be written whenever it is told"
    ledger.note_heads({PEERS[0]: (5, digest("later"))})
    assert ledger.heads_seen[PEERS[0]] == LedgerHead(5, digest("later"))


def test_what_an_earlier_version_kept_of_such_a_head_is_passed_over() -> None:
    state = LedgerState()
    absurd = SeenHead(identity=PEERS[0], counter=2**63 - 1, digest=bytes(32))
    state.apply(HeadsSeen(heads=(absurd,)), 2)
    assert state.heads == {}


def test_a_statement_with_a_number_that_no_ledger_can_reach_is_none() -> None:
    fields = {
        "identity": ME.public,
        "study_hash": bytes(32),
        "run": "run",
        "epoch": bytes(16),
        "expires": 1,
        "roster_hash": bytes(32),
        "agreement_key": bytes(32),
        "kem_key": b"",
        "counter": MOST_ROWS,
        "head": bytes(32),
        "heads": ((PEERS[0], 2**63 - 1, bytes(32)),),
        "declared_reset": 0,
    }
    said = KeyAnnouncement.model_validate(fields)
    assert read_signed(KeyAnnouncement, said.signed(ME)) == said
    beyond = said.model_copy(update={"counter": MOST_ROWS + 1}).signed(ME)
    with pytest.raises(MessageError):
        read_signed(KeyAnnouncement, beyond)


def test_rows_of_a_loss_that_an_earlier_version_declared_are_read(tmp_path: Path) -> None:
    with make_ledger(tmp_path) as ledger:
        body = {"entry": "lost", "since": 1, "charges": []}
        with ledger._writing():
            row = ledger._log.append(json.dumps(body, separators=(",", ":")).encode(), 40)
        assert row.sequence == 40
    with Ledger.open(tmp_path / "ledger.sqlite", ME) as ledger:
        ledger.check_not_behind([LedgerHead(20, digest("lost"))])
        assert (
            refused(ledger.check_not_behind, [LedgerHead(41, digest("more"))]) == Code.LEDGER_BEHIND
        )
