"""One hospital against a server that asks whatever it likes: what it answers, draws and settles.

Real ledgers, real keys; only the noisy vectors are known numbers, so that sums can be checked.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from polyclinic_client.compute.integers import Moment, NoisyIntegers
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_client.ledger.state import ReleaseState
from polyclinic_client.ledger.witness import read_invented
from polyclinic_client.records.entry import LedgerHead
from polyclinic_client.records.journal import PeerReset
from polyclinic_client.run.refusals import REASON_OF, RefusalError
from polyclinic_client.run.sum_responder import KEYS_LIVE_S, SumResponder
from polyclinic_client.run.terms import Terms
from polyclinic_common.errors import Code, LedgerError, PrivacyError
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import GRADIENT
from polyclinic_common.secure_sum.chain import Attempt, Chain
from polyclinic_common.secure_sum.masks import unmasked_sum
from polyclinic_common.secure_sum.settlement import AnsweredSum
from polyclinic_common.secure_sum.statements import KeyAnnouncement
from polyclinic_common.wire import (
    CloseRequest,
    Introduction,
    MaskedVector,
    Reason,
    SettleRequest,
    SumRecord,
    SumRequest,
)
from tests.kits.secure_sum import HOSPITALS, NOW, RUN, STUDY, looks_uniform, roster_of

LENGTH, ROUNDS, M, C = 512, 6, 3, 1
PLAN = SumPlan(
    grid_exponent=-20,
    clip=0.25,
    sensitivity=600.0,
    variance=2**24,
    shares=M - C,
    length=LENGTH,
    rounds=ROUNDS,
)
ROSTER = roster_of(HOSPITALS[:4])
A, B, D, E = ROSTER.identities
ALL: Attempt = (A, B, D, E)
HEX = STUDY.hex()


class Draws:
    """Known vectors in place of a cohort; counts how often one is drawn."""

    def __init__(self, start: int):
        self.start = start
        self.made = 0

    def draw(self, weights: NDArray[np.float64], moment: Moment) -> NDArray[np.int64]:
        self.made += 1
        first = self.start + 1000 * moment.release.round_number + 7 * self.made
        return np.arange(first, first + LENGTH, dtype=np.int64)


class Hospital:
    """A site: its folder, and a node that can be started again."""

    def __init__(self, number: int, path: Path, verified: frozenset[bytes]):
        self.identity = HOSPITALS[number]
        self.draws = Draws(10**6 * number)
        self.now = float(NOW)
        self.folder = SiteFolder.create(
            path, delta=1e-5, epsilon_cap=1000.0, identity=self.identity
        )
        planned = Planned(
            kind=GRADIENT, releases=ROUNDS, headline=PLAN.headline, fallback=PLAN.fallback
        )
        self.folder.ledger.approve(
            Approval(
                study_hash=STUDY,
                run=RUN,
                planned=(planned,),
                lost_rounds=ROUNDS,
                expires=dt.date(2099, 12, 31),
            )
        )
        self.terms = Terms(STUDY, RUN, ROSTER, verified, M, C, ROUNDS, {GRADIENT: PLAN})
        self.start()

    def start(self) -> None:
        sources = {GRADIENT: cast(NoisyIntegers, self.draws)}
        self.member = SumResponder(
            self.terms,
            self.identity,
            self.folder.ledger,
            sources,
            lambda: self.now,
            self.folder.journal,
        )

    def held(self, round_number: int) -> ReleaseState | None:
        held = self.folder.ledger.releases_of(RUN)
        found = (each for each in held if each.reserved.release.round_number == round_number)
        return next(found, None)

    def settled(self, round_number: int) -> object:
        held = self.held(round_number)
        return held and held.settled


class Server:
    """Asks hospitals, honestly or not."""

    def __init__(self, sites: dict[bytes, Hospital]):
        self.sites = sites
        self.answers: tuple[bytes, ...] = ()
        self.exchange()

    def exchange(self, who: Sequence[bytes] = ALL) -> None:
        announced = tuple(self.sites[key].member.open().statement for key in who)
        shown = Introduction(HEX, RUN, announced)
        self.answers = tuple(self.sites[key].member.introduce(shown).statement for key in who)

    def request(self, round_number: int = 1, chain: Chain = (ALL,), **changes: Any) -> SumRequest:
        asked = SumRequest(
            HEX, RUN, round_number, GRADIENT, chain, None, self.answers, (), weights(round_number)
        )
        return replace(asked, **changes)

    def ask(self, request: SumRequest, who: Sequence[bytes] = ()) -> list[MaskedVector]:
        return [self.sites[key].member.sum(request) for key in who or request.chain[-1]]


def weights(number: float) -> NDArray[np.float64]:
    return np.full(LENGTH, float(number))


def record(request: SumRequest) -> SumRecord:
    before = b"" if request.previous is None else request.previous.digest(RUN)
    return SumRecord(
        before, request.round_number, request.kind, request.chain, broadcast_hash(request.weights)
    )


def reason(action: Callable[[], object]) -> Reason:
    """Return the reason with which a site refuses."""
    with pytest.raises((RefusalError, LedgerError)) as refused:
        action()
    match refused.value:
        case RefusalError(reason=found):
            return found
        case LedgerError(code=code):
            return REASON_OF[code]
    raise AssertionError


def summed(replies: Sequence[MaskedVector]) -> list[int]:
    return [int(each) for each in unmasked_sum([reply.vector for reply in replies])]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make four hospitals that have exchanged keys; some may have verified fewer peers."""
    made: list[Hospital] = []

    def server(verified: dict[bytes, frozenset[bytes]] | None = None) -> Server:
        for number in range(4):
            own = ALL[number]
            known = (verified or {}).get(own, frozenset(ALL))
            made.append(Hospital(number, tmp_path / str(number), known))
        return Server({each.identity.public: each for each in made})

    yield server
    for each in made:
        each.folder.close()


@pytest.fixture
def server(make: Callable[..., Server]) -> Server:
    return make()


def closings(replies: Sequence[MaskedVector]) -> tuple[bytes, ...]:
    return tuple(reply.closing for reply in replies if reply.closing)


def stored_sum(server: Server, number: int, who: Sequence[bytes]) -> list[int]:
    """Return the plain sum of what the hospitals drew first in a round."""
    firsts = []
    for key in who:
        stored = server.sites[key].folder.ledger.stored(held_release(server, key, number))
        assert stored is not None
        firsts.append(stored.vector)
    return [int(each) for each in np.sum(firsts, axis=0)]


def held_release(server: Server, key: bytes, number: int) -> ReleaseId:
    held = server.sites[key].held(number)
    assert held is not None
    return held.reserved.release


def test_honest_run_sums_and_settles_every_round_at_headline(server: Server) -> None:
    """Closings ride on the next round's reply and come back with the request after that."""
    previous: SumRecord | None = None
    carried: tuple[bytes, ...] = ()
    for number in (1, 2, 3):
        request = server.request(number, previous=previous, closings=carried)
        replies = server.ask(request)
        assert summed(replies) == stored_sum(server, number, ALL)
        previous, carried = record(request), closings(replies)
        assert [bool(reply.closing) for reply in replies] == [number > 1] * 4
    site = server.sites[A]
    assert [site.settled(number) for number in (1, 2, 3)] == ["headline", None, None]
    assert previous is not None
    closed = [
        each.member.close(CloseRequest(HEX, RUN, previous, carried))
        for each in server.sites.values()
    ]
    last = tuple(said.statement for said in closed)
    for each in server.sites.values():
        each.member.settle(SettleRequest(HEX, RUN, last))
        assert [each.settled(number) for number in (1, 2, 3)] == ["headline"] * 3
        assert each.draws.made == 3


def test_a_ledger_begun_anew_is_written_down_by_every_peer_once_a_run(
    server: Server,
) -> None:
    site = server.sites[D]
    site.folder.close()
    shutil.rmtree(site.folder.path)
    site.folder = SiteFolder.create(
        site.folder.path, delta=1e-5, epsilon_cap=9.0, identity=site.identity, declared_reset=True
    )
    site.start()
    announced = tuple(each.member.open().statement for each in server.sites.values())
    for key in (A, B, E):
        for _ in range(2):
            server.sites[key].member.introduce(Introduction(HEX, RUN, announced))
        journal = server.sites[key].folder.journal
        found = [each.event for each in journal.events() if isinstance(each.event, PeerReset)]
        assert found == [PeerReset(identity=D, run=RUN)]
        assert journal.peer_resets() == {D}


def test_set_below_m_is_refused_before_anything_is_drawn(server: Server) -> None:
    for chain in (((A, B),), (ALL, (A, B))):
        request = server.request(chain=chain)
        assert reason(partial(server.ask, request, [A])) is Reason.PARTICIPANT_RULE
    assert server.sites[A].draws.made == 0
    assert server.sites[A].held(1) is None


def test_unverified_peers_are_not_counted_towards_m(make: Callable[..., Server]) -> None:
    """A has verified two peers: four hospitals count as three for it, other three as two."""
    server = make({A: frozenset({B, D})})
    assert server.ask(server.request(), [A])
    three = (A, B, E)
    assert reason(lambda: server.ask(server.request(2, chain=(three,)), [A])) is (
        Reason.PARTICIPANT_RULE
    )
    assert server.ask(server.request(chain=(three,)), [B])


def test_answers_of_unverified_peers_are_no_challenge(
    make: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """c + 1 verified peers must have answered before anything leaves after a start.

    With m of the study that follows from the rule for sets; here m is 1, to see it by itself.
    """
    monkeypatch.setattr(Terms, "__post_init__", lambda _: None)
    server = make({A: frozenset({B})})
    site = server.sites[A]
    site.terms = replace(site.terms, m=1)
    site.start()
    server.exchange()
    assert reason(lambda: server.ask(server.request(), [A])) is Reason.PARTICIPANT_RULE
    server.exchange((A, B))
    assert reason(lambda: server.ask(server.request(chain=((A, B),)), [A])) is (
        Reason.PARTICIPANT_RULE
    )
    assert site.draws.made == 0


def test_ledger_behind_what_a_verified_peer_has_seen_answers_nothing(
    make: Callable[..., Server],
) -> None:
    """Yesterday's copy of a ledger; what an unverified peer says of it does not count."""
    server = make({A: frozenset({B, D})})
    ahead = {A: (10_000, b"x" * 32)}
    server.sites[E].folder.ledger.note_heads(ahead)
    server.exchange()
    assert server.ask(server.request(), [A])
    server.sites[B].folder.ledger.note_heads(ahead)
    rows = len(server.sites[A].folder.ledger.export_rows())
    with pytest.raises(LedgerError) as caught:
        server.exchange()
    assert caught.value.code == Code.LEDGER_BEHIND
    assert len(server.sites[A].folder.ledger.export_rows()) == rows  # what is written now forks it


@pytest.mark.parametrize("counter", [2**63 - 1, 2**40])
def test_a_ledger_head_that_never_was_stops_nobody_and_is_noted(
    make: Callable[..., Server], counter: int
) -> None:
    """B and E say that they saw a row of A's ledger that no ledger has; A verified B alone."""
    server = make({A: frozenset({B, D})})
    announced = {key: server.sites[key].member.open().statement for key in ALL}
    for number, key in ((1, B), (3, E)):
        said = read_signed(KeyAnnouncement, announced[key])
        lie = said.model_copy(update={"heads": ((A, counter, bytes(32)),)})
        announced[key] = lie.signed(HOSPITALS[number])
    shown = Introduction(HEX, RUN, tuple(announced.values()))
    server.answers = tuple(server.sites[key].member.introduce(shown).statement for key in ALL)
    assert server.ask(server.request(), [A])
    site = server.sites[A]
    assert read_invented(site.folder.ledger.path) == {B: LedgerHead(counter, bytes(32))}
    site.folder.ledger.set_caps(2000.0)
    assert site.folder.ledger.head().counter < 100


def test_chain_outside_the_roster_or_without_answers_is_refused(server: Server) -> None:
    stranger = HOSPITALS[6].public
    outside = server.request(chain=(tuple(sorted((*ALL, stranger))), ALL))
    assert reason(lambda: server.ask(outside, [A])) is Reason.PARTICIPANT_RULE
    server.exchange((A, B, D))
    assert reason(lambda: server.ask(server.request(), [A])) is Reason.PARTICIPANT_RULE
    assert server.ask(server.request(chain=(ALL, (A, B, D))), [A])


def test_site_does_not_answer_an_attempt_without_itself(server: Server) -> None:
    for chain in (((B, D, E),), (ALL, (B, D, E))):
        request = server.request(chain=chain)
        assert reason(partial(server.ask, request, [A])) is Reason.PARTICIPANT_RULE


def test_non_nested_retries_are_refused(server: Server) -> None:
    """S without E, then S without D: A would stand alone in the difference."""
    server.ask(server.request(), [A])
    server.ask(server.request(chain=(ALL, (A, B, D))), [A])
    for chain in ((ALL, (A, B, E)), (ALL,), ((A, B, E),), (ALL, (A, B, D), (A, B, E))):
        request = server.request(chain=chain)
        assert reason(partial(server.ask, request, [A])) is Reason.PARTICIPANT_RULE
    assert server.sites[A].draws.made == 1


def test_site_that_was_left_out_never_re_enters(server: Server) -> None:
    server.ask(server.request(), [E])
    again = server.request(chain=(ALL, (A, B, D), ALL))
    assert reason(lambda: server.ask(again, [E])) is Reason.PARTICIPANT_RULE


def test_split_sets_give_uniform_rubbish(server: Server) -> None:
    """A is shown all, the others three: what comes out is uniform (false alarm 1e-9)."""
    mine = server.ask(server.request(), [A])
    rest = server.ask(server.request(chain=(ALL, (A, B, D))), [B, D])
    total = unmasked_sum([reply.vector for reply in (*mine, *rest)])
    assert looks_uniform(total.view(np.uint64))


def test_re_run_with_another_broadcast_is_refused(server: Server) -> None:
    """The difference of two gradients of one round, with one noise, would have none."""
    server.ask(server.request())
    other = server.request(weights=weights(99.0))
    assert reason(lambda: server.ask(other, [A])) is Reason.OUT_OF_ORDER
    longer = replace(other, chain=(ALL, (A, B, D)))
    assert reason(lambda: server.ask(longer, [A])) is Reason.OUT_OF_ORDER
    assert server.sites[A].draws.made == 1


def test_another_study_of_the_same_run_settles_and_closes_nothing(server: Server) -> None:
    """Its rule may want fewer statements: here two, an own one and a colluder's."""
    site, request = server.sites[A], server.request()
    server.ask(request)
    stricter = b"s" * 32
    terms = replace(site.terms, study_hash=stricter, m=4)
    other = SumResponder(
        terms, site.identity, site.folder.ledger, {}, lambda: site.now, site.folder.journal
    )
    held = AnsweredSum(
        stricter, held_release(server, A, 1), (ALL,), broadcast_hash(request.weights)
    )
    statements = tuple(held.closing(each, 1, bytes(32)) for each in HOSPITALS[:2])
    close = CloseRequest(stricter.hex(), RUN, record(request), statements)
    assert reason(lambda: other.close(close)) is Reason.OUT_OF_ORDER
    found = site.held(1)
    assert found is not None
    assert (found.closed, found.settled) == (None, None)
    longer = server.request(chain=(ALL, (A, B, D)))
    assert server.ask(longer, [A])


def test_a_copy_from_the_middle_of_a_run_answers_nothing(server: Server, tmp_path: Path) -> None:
    """Copied after round 1, put back after peers saw the closing of round 2: no second draw."""
    site = server.sites[A]
    first = server.request(1)
    server.ask(first)
    shutil.copytree(tmp_path / "0", tmp_path / "copy")
    second = server.request(2, previous=record(first))
    closed = closings(server.ask(second))
    third = server.request(3, previous=record(second), closings=closed)
    server.ask(third)
    site.folder.close()
    shutil.rmtree(tmp_path / "0")
    shutil.copytree(tmp_path / "copy", tmp_path / "0")
    site.folder = SiteFolder.open(tmp_path / "0")
    site.start()
    drawn = site.draws.made
    with pytest.raises(LedgerError) as refused:
        server.exchange()
    assert refused.value.code == Code.LEDGER_BEHIND
    again = server.request(2, previous=record(first))
    with pytest.raises((LedgerError, RefusalError)):
        site.member.sum(again)
    assert site.draws.made == drawn


def test_re_run_after_a_restart_masks_what_is_stored(server: Server) -> None:
    """New epoch, new masks, the same noisy vector: never a second draw."""
    first = server.ask(server.request())
    server.sites[B].start()
    assert reason(lambda: server.ask(server.request(), [B])) is Reason.OUT_OF_ORDER
    server.exchange()
    second = server.ask(server.request())
    assert summed(first) == summed(second)
    assert all(
        not (one.vector == other.vector).any() for one, other in zip(first, second, strict=True)
    )
    assert {each.draws.made for each in server.sites.values()} == {1}


def test_repeated_attempt_is_the_same_payload(server: Server) -> None:
    one, two = (server.ask(server.request(), [A])[0] for _ in range(2))
    assert hashlib.sha256(one.vector.tobytes()).digest() == (
        hashlib.sha256(two.vector.tobytes()).digest()
    )


def test_keys_introduced_twice_make_no_second_payload_for_an_attempt(server: Server) -> None:
    """The same announcements again: new ciphertexts in the same session, so other masks."""
    sites = [server.sites[key].member for key in ALL]
    shown = Introduction(HEX, RUN, tuple(site.open().statement for site in sites))
    server.answers = tuple(site.introduce(shown).statement for site in sites)
    server.ask(server.request())
    server.answers = tuple(site.introduce(shown).statement for site in sites)
    assert reason(lambda: server.ask(server.request(), [A])) is Reason.OUT_OF_ORDER
    assert server.sites[A].draws.made == 1


@pytest.mark.parametrize("what", ["model", "before", "chain", "round", "nothing"])
def test_history_that_is_not_this_sites_own_is_refused(server: Server, what: str) -> None:
    first = server.request()
    server.ask(first)
    true = record(first)
    told = {
        "model": replace(true, broadcast=bytes(32)),
        "before": replace(true, before=bytes(32)),
        "chain": replace(true, chain=((A, B, D),)),
        "round": replace(true, round_number=2),
        "nothing": None,
    }[what]
    second = server.request(2, previous=told)
    assert reason(lambda: server.ask(second, [A])) is Reason.OUT_OF_ORDER
    assert server.sites[A].draws.made == 1
    assert server.ask(server.request(2, previous=true), [A])


def test_earlier_round_is_never_answered_again(server: Server) -> None:
    first = server.request()
    server.ask(first)
    server.ask(server.request(2, previous=record(first)))
    for chain in ((ALL,), (ALL, (A, B, D))):
        again = server.request(chain=chain)
        assert reason(partial(server.ask, again, [A])) is Reason.OUT_OF_ORDER


def test_closed_sum_takes_no_further_attempt(server: Server) -> None:
    first = server.request()
    server.ask(first)
    server.sites[A].member.close(CloseRequest(HEX, RUN, record(first), ()))
    for chain in ((ALL,), (ALL, (A, B, D))):
        again = server.request(chain=chain)
        assert reason(partial(server.ask, again, [A])) is Reason.OUT_OF_ORDER


def test_site_that_was_left_out_signs_no_closing_and_stays_at_fallback(server: Server) -> None:
    server.ask(server.request())
    last = server.request(chain=(ALL, (A, B, D)))
    server.ask(last)
    told = CloseRequest(HEX, RUN, record(last), ())
    assert reason(lambda: server.sites[E].member.close(told)) is Reason.OUT_OF_ORDER
    statements = tuple(server.sites[key].member.close(told).statement for key in (A, B, D))
    for each in server.sites.values():
        each.member.settle(SettleRequest(HEX, RUN, statements))
    assert [server.sites[key].settled(1) for key in ALL] == ["headline"] * 3 + [None]


def closed_by(server: Server, request: SumRequest, who: Sequence[bytes]) -> tuple[bytes, ...]:
    told = CloseRequest(HEX, RUN, record(request), ())
    return tuple(server.sites[key].member.close(told).statement for key in who)


def test_headline_needs_more_than_p1_less_m_plus_c_statements(server: Server) -> None:
    """|P1| = 4, m = 3, c = 1: three, this hospital's own among them; they may come late."""
    request = server.request()
    server.ask(request)
    statements = closed_by(server, request, ALL)
    site = server.sites[A]
    for few in (statements[:2], statements[1:2], statements[:2] * 2, ()):
        site.member.close(CloseRequest(HEX, RUN, record(request), few))
        assert site.settled(1) is None
    site.member.settle(SettleRequest(HEX, RUN, statements[:2]))
    assert site.settled(1) is None
    site.member.settle(SettleRequest(HEX, RUN, statements[1:3]))
    assert site.settled(1) == "headline"


def test_closings_over_another_chain_settle_nothing(server: Server) -> None:
    request = server.request()
    server.ask(request)
    longer = AnsweredSum(
        STUDY, held_release(server, A, 1), (ALL, ALL), broadcast_hash(request.weights)
    )
    foreign = tuple(longer.closing(each, 1, bytes(32)) for each in HOSPITALS[1:4])
    own = closed_by(server, request, [A])
    site = server.sites[A]
    site.member.close(CloseRequest(HEX, RUN, record(request), own + foreign))
    assert site.settled(1) is None


def test_closings_of_unverified_peers_settle_nothing(make: Callable[..., Server]) -> None:
    server = make({A: frozenset({B, D})})
    request = server.request()
    server.ask(request)
    statements = closed_by(server, request, ALL)
    site = server.sites[A]
    told = record(request)
    site.member.close(CloseRequest(HEX, RUN, told, (*statements[:2], statements[3])))
    assert site.settled(1) is None
    site.member.close(CloseRequest(HEX, RUN, told, statements[:3]))
    assert site.settled(1) == "headline"


def test_sum_that_no_attempt_was_answered_of_cannot_be_closed(server: Server) -> None:
    request = server.request()
    server.ask(request, [A])
    for told in (
        replace(record(request), chain=()),
        replace(record(request), round_number=2),
        replace(record(request), kind="metrics"),
    ):
        close = CloseRequest(HEX, RUN, told, ())
        assert reason(partial(server.sites[A].member.close, close)) is Reason.OUT_OF_ORDER


def test_nothing_beyond_the_plan_is_answered(server: Server) -> None:
    for changes in ({"kind": "metrics"}, {"round_number": ROUNDS + 1}):
        request = replace(server.request(), **changes)
        assert reason(partial(server.ask, request, [A])) is Reason.OVER_BUDGET


def test_closed_run_answers_nothing(server: Server) -> None:
    request = server.request()
    server.ask(request)
    site = server.sites[A]
    site.member.settle(SettleRequest(HEX, RUN, ()))
    assert reason(lambda: server.ask(request, [A])) is Reason.OUT_OF_ORDER
    server.exchange()
    assert reason(lambda: server.ask(server.request(), [A])) is Reason.OUT_OF_ORDER
    assert site.draws.made == 1


def test_expired_keys_make_no_mask(server: Server) -> None:
    """Keys agreed in time are not used later either."""
    site = server.sites[A]
    site.now = NOW + KEYS_LIVE_S + 1.0
    assert reason(lambda: server.ask(server.request(), [A])) is Reason.OUT_OF_ORDER
    assert site.draws.made == 0


def test_sum_that_this_hospital_has_not_closed_is_not_settled(server: Server) -> None:
    request = server.request()
    server.ask(request)
    statements = closed_by(server, request, (B, D, E))
    server.sites[A].member.settle(SettleRequest(HEX, RUN, statements))
    assert server.sites[A].settled(1) is None


@pytest.mark.parametrize(("m", "c"), [(2, 1), (4, 4), (5, 1), (3, 3)])
def test_terms_under_which_two_chains_could_complete_are_refused(
    make: Callable[..., Server], m: int, c: int
) -> None:
    """The study says the same; every site checks it against its own roster."""
    server = make()
    with pytest.raises(PrivacyError):
        replace(server.sites[A].terms, m=m, c=c)
