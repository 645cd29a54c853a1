"""A server that lies about a secure sum, over the wire, to three real nodes.

The fourth hospital of the roster is its accomplice: the test holds that identity. Whatever is
asked, the nodes answer with a coded refusal, or with vectors of which no set unmasks; every
hospital has drawn once, and was charged once, for every sum. Vectors that do not unmask agree
with what is stored in some entry with probability below 2^-56 in a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MessageType

from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Refused
from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.models.head import length_of
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import GRADIENT, METRICS
from polyclinic_common.secure_sum.chain import Attempt, Chain
from polyclinic_common.secure_sum.masks import Integers, unmasked_sum
from polyclinic_common.secure_sum.session import KeyExchange
from polyclinic_common.secure_sum.statements import KeyAnnouncement
from polyclinic_common.wire import (
    AnnouncedKeys,
    AnsweredKeys,
    Introduction,
    MaskedVector,
    OpenRequest,
    Reason,
    Refusal,
    Release,
    Request,
    SumRecord,
    SumRequest,
    decode_reply,
    encode_request,
)
from tests.kits.consortium import LONG_S, Consortium, consortium, wait_for
from tests.kits.malicious import malicious_bundle, taken_run

HONEST = A, B, D = ("site 0", "site 1", "site 2")
ACCOMPLICE = E = "site 3"
RUNS = (
    "model",
    "announcements",
    "roster",
    "participants",
    "history",
    "copied-key",
    "retries",
    "below-m",
    "re-run",
    "epoch",
    "kinds",
)


@dataclass(frozen=True)
class Lines:
    """The server's lines to the nodes."""

    house: Consortium
    grid: Any
    nodes: Mapping[str, int]

    def tell(self, requests: Mapping[str, Request]) -> dict[str, Release]:
        """Ask every hospital something else, and return all answers."""
        messages = [
            Message(encode_request(request), self.nodes[name], MessageType.TRAIN, ttl=2 * LONG_S)
            for name, request in requests.items()
        ]
        waiting = dict(zip(self.grid.push_messages(messages), requests, strict=True))
        found: dict[str, Release] = {}

        def all_came() -> bool:
            for reply in self.grid.pull_messages(list(waiting)):
                name = waiting.pop(reply.metadata.reply_to_message_id)
                found[name] = decode_reply(reply.content)
            return not waiting

        wait_for("answers", all_came, LONG_S)
        return found


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    folder = tmp_path_factory.mktemp("consortium")
    changes = {"evaluation": {"private": {"share": 0.3, "every": 1}}}
    with consortium(folder, runs=RUNS, rounds=2, changes=changes) as house:
        house.start_server(passive=True)
        for name in HONEST:
            house.start_node(name)
        wait_for("nodes", lambda: all("INFO connected" in house.log(name) for name in HONEST))
        with taken_run(house, malicious_bundle(Path("nowhere"))) as (grid, nodes, _):
            yield Lines(house, grid, nodes)


@dataclass
class Liar:
    """The server and its accomplice in one run."""

    lines: Lines
    run: str
    answers: tuple[bytes, ...] = ()
    shown: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        house = self.lines.house
        keys = {name: read_identity(house.site_folder(name)) for name in house.names}
        self.key = {name: each.public for name, each in keys.items()}
        self.study, self.identity = house.study.hash(), keys[ACCOMPLICE]
        roster = Roster.of(self.key)
        self.exchange = KeyExchange(self.identity, bytes.fromhex(self.study), self.run, roster)

    def announce(self, **changes: Any) -> bytes:
        """Return the accomplice's announcement, with a good signature whatever it says."""
        said = read_signed(KeyAnnouncement, self.exchange.announcement(2**40, (7, b"h" * 32), {}))
        return said.model_copy(update=changes).signed(self.identity)

    def open(self) -> dict[str, bytes]:
        """Return everybody's announcement."""
        request = OpenRequest(self.study, self.run)
        said = self.lines.tell(dict.fromkeys(HONEST, request))
        return {name: _statement(each) for name, each in said.items()} | {E: self.announce()}

    def introduce(self, shown: Mapping[str, Sequence[bytes]]) -> dict[str, Release]:
        """Show hospitals announcements, each its own."""
        return self.lines.tell(
            {name: Introduction(self.study, self.run, tuple(told)) for name, told in shown.items()}
        )

    def meet(self) -> None:
        """Exchange keys as an honest server would."""
        self.shown = self.open()
        told = tuple(self.shown.values())
        said = self.introduce(dict.fromkeys(HONEST, told))
        own = self.exchange.answer(told, 0, {})
        self.answers = (*map(_statement, said.values()), own)

    def attempt(self, *names: str) -> Attempt:
        return tuple(sorted(self.key[name] for name in names))

    def request(self, number: int = 1, chain: Chain = (), **changes: Any) -> SumRequest:
        """Return an honest request of a sum over the three honest hospitals, but for `changes`."""
        asked = SumRequest(
            self.study,
            self.run,
            number,
            GRADIENT,
            chain or (self.attempt(*HONEST),),
            None,
            self.answers,
            (),
            self.weights(number),
        )
        return replace(asked, **changes)

    def weights(self, number: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        study = self.lines.house.study
        return np.full(length_of(study), number / 100)

    def ask(self, request: SumRequest, *names: str) -> dict[str, Release]:
        return self.lines.tell(dict.fromkeys(names or HONEST, request))

    def stored(self, name: str, number: int = 1, kind: str = GRADIENT) -> Integers:
        """Return the noisy vector in a hospital's ledger."""
        with SiteFolder.open(self.lines.house.site_folder(name), read_only=True) as site:
            held = site.ledger.stored(ReleaseId(self.run, number, kind))
            assert held is not None
            return held.vector

    def unmasks(self, replies: Mapping[str, Release], number: int = 1) -> set[tuple[str, ...]]:
        """Return the sets of hospitals whose vectors add up to what they stored, in any entry."""
        vectors = {name: _vector(reply) for name, reply in replies.items()}
        stored = {name: self.stored(name, number, vectors[name].kind) for name in replies}
        shared = min(map(len, stored.values()))  # kinds may differ in length
        found = set()
        for count in range(1, len(replies) + 1):
            for names in combinations(sorted(replies), count):
                total = unmasked_sum([vectors[name].vector[:shared] for name in names])
                if (total == np.sum([stored[name][:shared] for name in names], axis=0)).any():
                    found.add(names)
        return found

    def charged(self, name: str) -> list[tuple[int, str]]:
        """Return what a hospital was charged for in this run; over all runs nothing else was."""
        with SiteFolder.open(self.lines.house.site_folder(name), read_only=True) as site:
            site.ledger.verify()
            every = [held for run in RUNS for held in site.ledger.releases_of(run)]
            assert site.ledger.budget().releases == len(every)
            names = [held.reserved.release for held in every]
        return [(each.round_number, each.kind) for each in names if each.run == self.run]


def _statement(release: Release) -> bytes:
    assert isinstance(release, AnnouncedKeys | AnsweredKeys), release
    return release.statement


def _vector(release: Release) -> MaskedVector:
    assert isinstance(release, MaskedVector), release
    return release


def refused(reason: Reason, *names: str) -> dict[str, Refusal]:
    return dict.fromkeys(names or HONEST, Refusal(reason))


def record(request: SumRequest, **changes: Any) -> SumRecord:
    told = SumRecord(
        b"", request.round_number, request.kind, request.chain, broadcast_hash(request.weights)
    )
    return replace(told, **changes)


ONCE = [(1, GRADIENT)]


def test_split_view_of_the_model_unmasks_nothing_and_is_not_taken_back(lines: Lines) -> None:
    liar = Liar(lines, "model")
    liar.meet()
    honest, other = liar.request(), liar.request(weights=liar.weights(5))
    replies = lines.tell({A: other, B: honest, D: honest})
    assert liar.unmasks(replies) == set()
    assert liar.ask(honest, A) == refused(Reason.OUT_OF_ORDER, A)
    assert [liar.charged(name) for name in HONEST] == [ONCE] * 3


def test_split_view_of_the_announcements_is_refused_before_anything_is_charged(
    lines: Lines,
) -> None:
    """One hospital is shown other keys of the accomplice than the others."""
    liar = Liar(lines, "announcements")
    shown = liar.open()
    others = shown | {E: liar.announce(expires=2**40 + 1)}
    said = liar.introduce({A: [*others.values()], B: [*shown.values()], D: [*shown.values()]})
    own = liar.exchange.answer(list(shown.values()), 0, {})
    liar.answers = (*map(_statement, said.values()), own)
    assert liar.ask(liar.request()) == refused(Reason.BAD_SIGNATURE)
    assert [liar.charged(name) for name in HONEST] == [[]] * 3


def test_split_view_of_the_roster_is_refused(lines: Lines) -> None:
    liar = Liar(lines, "roster")
    shown = liar.open() | {E: liar.announce(roster_hash=bytes(32))}
    told = liar.introduce(dict.fromkeys(HONEST, tuple(shown.values())))
    assert told == refused(Reason.BAD_SIGNATURE)
    assert liar.ask(liar.request()) == refused(Reason.OUT_OF_ORDER)
    assert [liar.charged(name) for name in HONEST] == [[]] * 3


def test_split_view_of_the_participants_unmasks_nothing(lines: Lines) -> None:
    liar = Liar(lines, "participants")
    liar.meet()
    whole, three = liar.attempt(*HONEST, E), liar.attempt(*HONEST)
    longer = liar.request(chain=(whole, three))
    replies = lines.tell({A: liar.request(chain=(whole,)), B: longer, D: longer})
    assert liar.unmasks(replies) == set()
    assert liar.unmasks(lines.tell({A: longer}) | {B: replies[B], D: replies[D]}) == {HONEST}
    assert [liar.charged(name) for name in HONEST] == [ONCE] * 3


def test_split_view_of_the_history_is_refused_or_unmasks_nothing(lines: Lines) -> None:
    """Who answered the sum before refuses another past; who was left out of it shares no mask."""
    liar = Liar(lines, "history")
    liar.meet()
    first = liar.request(chain=(liar.attempt(B, D, E),))
    liar.ask(first, B, D)
    true, false = record(first), record(first, broadcast=bytes(32))
    chain = (liar.attempt(*HONEST),)
    assert liar.ask(liar.request(2, chain, previous=false), B, D) == refused(
        Reason.OUT_OF_ORDER, B, D
    )
    honest = liar.request(2, chain, previous=true)
    replies = lines.tell({A: liar.request(2, chain, previous=false), B: honest, D: honest})
    assert liar.unmasks(replies, 2) == set()
    assert liar.ask(honest, A) == refused(Reason.OUT_OF_ORDER, A)
    assert liar.charged(A) == [(2, GRADIENT)]
    assert liar.charged(B) == liar.charged(D) == [(1, GRADIENT), (2, GRADIENT)]


def test_a_copied_ephemeral_key_in_an_introduction_is_refused(lines: Lines) -> None:
    liar = Liar(lines, "copied-key")
    shown = liar.open()
    stolen = read_signed(KeyAnnouncement, shown[A])
    copies: list[dict[str, Any]] = [{"agreement_key": stolen.agreement_key}]
    copies += [{"kem_key": stolen.kem_key}] if stolen.kem_key else []
    for copied in copies:
        told = tuple((shown | {E: liar.announce(**copied)}).values())
        assert liar.introduce(dict.fromkeys(HONEST, told)) == refused(Reason.BAD_SIGNATURE)
    assert [liar.charged(name) for name in HONEST] == [[]] * 3
    noted = [event.reason for event in lines.house.journal(B) if isinstance(event, Refused)]
    assert noted.count("bad_signature") >= len(copies)


def test_non_nested_retries_are_refused_and_draw_nothing_anew(lines: Lines) -> None:
    liar = Liar(lines, "retries")
    liar.meet()
    whole, three = liar.attempt(*HONEST, E), liar.attempt(*HONEST)
    liar.ask(liar.request(chain=(whole,)))
    drawn = liar.stored(A)
    liar.ask(liar.request(chain=(whole, three)))
    other = liar.attempt(A, B, E)
    for chain in ((whole, other), (other,), (whole,), (whole, three, other), (whole, three, whole)):
        assert liar.ask(liar.request(chain=chain), A) == refused(Reason.PARTICIPANT_RULE, A)
    assert (liar.stored(A) == drawn).all()
    assert [liar.charged(name) for name in HONEST] == [ONCE] * 3


def test_an_attempt_below_m_is_refused_before_anything_is_charged(lines: Lines) -> None:
    liar = Liar(lines, "below-m")
    liar.meet()
    whole, two = liar.attempt(*HONEST, E), liar.attempt(A, B)
    for chain in ((two,), (liar.attempt(A, E),), (whole, two)):
        assert liar.ask(liar.request(chain=chain), A) == refused(Reason.PARTICIPANT_RULE, A)
    assert liar.charged(A) == []


def test_a_round_run_again_with_another_broadcast_is_refused(lines: Lines) -> None:
    liar = Liar(lines, "re-run")
    liar.meet()
    honest = liar.request()
    assert liar.unmasks(liar.ask(honest)) == {HONEST}
    drawn = [liar.stored(name) for name in HONEST]
    for chain in (honest.chain, honest.chain * 2):
        again = replace(honest, weights=liar.weights(9), chain=chain)
        assert liar.ask(again) == refused(Reason.OUT_OF_ORDER)
    assert np.array_equal(drawn, [liar.stored(name) for name in HONEST])
    assert [liar.charged(name) for name in HONEST] == [ONCE] * 3


def test_announcements_and_answers_of_an_earlier_epoch_are_refused_and_nothing_is_drawn_anew(
    lines: Lines,
) -> None:
    liar = Liar(lines, "epoch")
    liar.meet()
    assert liar.unmasks(liar.ask(liar.request())) == {HONEST}
    drawn, old, replayed = liar.stored(A), liar.shown, liar.answers
    lines.house.kill(A)
    lines.house.start_node(A)
    assert liar.ask(liar.request(), A) == refused(Reason.OUT_OF_ORDER, A)  # it has no keys
    new = liar.open()
    assert liar.introduce({A: [*old.values()]}) == refused(Reason.BAD_SIGNATURE, A)
    said = liar.introduce({A: [*new.values()], B: [*old.values()], D: [*old.values()]})
    again = (liar.attempt(*HONEST),) * 2
    for answers in (replayed, (*map(_statement, said.values()), replayed[-1])):
        liar.answers = answers
        assert liar.ask(liar.request(chain=again), A) == refused(Reason.BAD_SIGNATURE, A)
    liar.meet()
    assert liar.unmasks(liar.ask(liar.request(chain=again))) == {HONEST}
    assert (liar.stored(A) == drawn).all()
    assert [liar.charged(name) for name in HONEST] == [ONCE] * 3


def test_sums_of_two_kinds_share_no_mask(lines: Lines) -> None:
    """One hospital is asked for the gradient where the others are asked for metrics."""
    liar = Liar(lines, "kinds")
    liar.meet()
    first = liar.request()
    gradient = liar.ask(first, A)
    metrics = liar.ask(liar.request(kind=METRICS), B, D)
    assert liar.unmasks(gradient | metrics) == set()
    own = liar.ask(liar.request(kind=METRICS, previous=record(first)), A)
    masks = [
        _vector(said[A]).vector - liar.stored(A, 1, kind).view(np.uint64)
        for said, kind in ((gradient, GRADIENT), (own, METRICS))
    ]
    shared = min(map(len, masks))
    assert not (masks[0][:shared] == masks[1][:shared]).any()
    assert liar.charged(A) == [*ONCE, (1, METRICS)]
    assert liar.charged(B) == liar.charged(D) == [(1, METRICS)]
