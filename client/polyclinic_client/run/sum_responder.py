"""One hospital in one run of mode secure-sum: keys, chain, stored vector, mask, closing.

Every check depends on messages and public parameters alone, and all of them pass before anything
is computed, charged or masked. A check that fails is a coded refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from polyclinic_client.compute.integers import NoisyIntegers
from polyclinic_client.ledger.ledger import Ledger, Stored
from polyclinic_client.records.journal import Journal, PeerReset
from polyclinic_client.run.answered_sums import AnsweredSums
from polyclinic_client.run.refusals import RefusalError
from polyclinic_client.run.stored_release import AnsweredAttempt, Earlier, Wanted, stored_release
from polyclinic_client.run.terms import Terms
from polyclinic_common.errors import MessageError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import GRADIENT
from polyclinic_common.secure_sum.chain import Chain, counted, extends, is_nested
from polyclinic_common.secure_sum.masks import View, Words, masked
from polyclinic_common.secure_sum.session import Agreed, KeyExchange
from polyclinic_common.wire import (
    AnnouncedKeys,
    AnsweredKeys,
    ClosedSum,
    CloseRequest,
    Introduction,
    MaskedVector,
    OpenRequest,
    Reason,
    Receipt,
    SettleRequest,
    SumRecord,
    SumRequest,
)

KEYS_LIVE_S = 7 * 24 * 3600
MOST_BYTES = 1 << 18  # of a closing statement: any chain of attempts of fifty hospitals fits


class SumResponder:
    """Answers the requests of one run.

    Parameters
    ----------
    terms : Terms
        What was approved.
    identity : Identity
        This hospital's key.
    ledger : Ledger
        This hospital's ledger.
    sources : mapping
        What draws the noisy integers of every kind of sum.
    now : callable
        Unix time in seconds; never runs backwards.
    journal : Journal
        Where it is written down that a peer declared a reset.
    begin : callable
        Called before patients are read, once all is done that follows from the message alone.
    """

    def __init__(
        self,
        terms: Terms,
        identity: Identity,
        ledger: Ledger,
        sources: Mapping[str, NoisyIntegers],
        now: Callable[[], float],
        journal: Journal,
        begin: Callable[[], None] = lambda: None,
    ):
        self._terms = terms
        self._identity = identity
        self._ledger = ledger
        self._sources = sources
        self._now = now
        self._journal = journal
        self._begin = begin
        self._resets: set[bytes] = set()
        self._exchange: KeyExchange | None = None
        self._agreed: Agreed | None = None

    def answer(
        self, request: OpenRequest | Introduction | SumRequest | CloseRequest
    ) -> AnnouncedKeys | AnsweredKeys | MaskedVector | ClosedSum:
        """Return what this site releases in answer to a request.

        Raises
        ------
        RefusalError, LedgerError
            If a check fails; nothing is computed, charged or masked then.
        """
        match request:
            case OpenRequest():
                return self.open()
            case Introduction():
                return self.introduce(request)
            case SumRequest():
                return self.sum(request)
            case CloseRequest():
                return self.close(request)

    def open(self) -> AnnouncedKeys:
        """Announce this site's keys; the same ones while the node runs."""
        if self._exchange is None:
            terms = self._terms
            self._exchange = KeyExchange(self._identity, terms.study_hash, terms.run, terms.roster)
        expires = int(self._now()) + KEYS_LIVE_S
        head, seen = self._ledger.head(), self._ledger.heads_seen
        reset = self._ledger.declared_reset
        return AnnouncedKeys(self._exchange.announcement(expires, head, seen, declared_reset=reset))

    def introduce(self, request: Introduction) -> AnsweredKeys:
        """Check all announcements and answer them."""
        exchange = self._require_exchange()
        with _as_refusal():
            answer = exchange.answer(
                request.announcements, int(self._now()), self._ledger.heads_seen
            )
        self._agreed = None
        self._check_not_behind(exchange.claims())  # or what is written now would make it a fork
        self._ledger.note_heads(exchange.heads())
        self._note_resets(exchange.resets())
        return AnsweredKeys(answer)

    def sum(self, request: SumRequest) -> MaskedVector:
        """Return this site's masked vector: drawn once, stored, then masked from what is stored."""
        release = ReleaseId(request.run_id, request.round_number, request.kind)
        history = self._history()
        agreed = self._agree(request.answers)
        self._check_chain(release, request.chain, agreed, history)
        transcript = history.accept(release, request.previous)
        self._check_weights(request.weights)
        self._check_closings(request.closings)
        vector = self._masked(release, transcript, request, history, agreed)
        return MaskedVector(
            request.study_hash,
            request.run_id,
            request.round_number,
            request.kind,
            len(request.chain),
            agreed.session,
            history.statement(request.previous),
            vector,
        )

    def close(self, request: CloseRequest) -> ClosedSum:
        """Return the closing statement of the last sum."""
        self._check_closings(request.closings)
        history = self._history()
        with self._ledger.one_commit():
            _told(history, request.previous, request.closings).write(self._ledger)
        statement = history.statement(request.previous)
        if not statement:
            raise RefusalError(Reason.OUT_OF_ORDER)
        return ClosedSum(statement)

    def settle(self, request: SettleRequest) -> Receipt:
        """Settle what can be settled, erase what was stored, and forget the keys."""
        self._check_closings(request.closings)
        with self._ledger.one_commit():
            _told(self._history(), None, request.closings).write(self._ledger)
        self._ledger.close_run(request.run_id)
        self._exchange = self._agreed = None
        return Receipt(request.run_id)

    def _check_closings(self, closings: Sequence[bytes]) -> None:
        """Refuse more statements than hospitals can have signed: reading them takes time."""
        if (
            len(closings) > len(self._terms.roster)
            or max(map(len, closings), default=0) > MOST_BYTES
        ):
            raise RefusalError(Reason.OUT_OF_ORDER)

    def _note_resets(self, peers: Sequence[bytes]) -> None:
        """Write down, once a run, which peers began their ledgers anew: people decide on it."""
        for peer in set(peers) - self._resets:
            self._journal.write(PeerReset(identity=peer, run=self._terms.run))
        self._resets |= set(peers)

    def _require_exchange(self) -> KeyExchange:
        if self._exchange is None:
            raise RefusalError(Reason.OUT_OF_ORDER)
        return self._exchange

    def _agree(self, answers: Sequence[bytes]) -> Agreed:
        """Derive pair secrets once; refuse if this ledger is behind what peers have seen of it."""
        exchange, terms = self._require_exchange(), self._terms
        if self._agreed is None:
            if not answers:
                raise RefusalError(Reason.OUT_OF_ORDER)
            with _as_refusal():
                agreed = exchange.agree(answers)
            heard = [peer for peer in agreed.claims if peer in terms.verified]
            if len(heard) < min(terms.c + 1, len(terms.roster) - 1):
                raise RefusalError(Reason.PARTICIPANT_RULE)
            self._check_not_behind(agreed.claims)
            self._agreed = agreed
        if self._agreed.expires < self._now():
            raise RefusalError(Reason.OUT_OF_ORDER)
        return self._agreed

    def _check_not_behind(self, claims: Mapping[bytes, tuple[int, bytes]]) -> None:
        """Refuse if verified peers have seen more of this ledger than is here."""
        verified = self._terms.verified
        self._ledger.hear(
            {peer: claim for peer, claim in claims.items() if peer in verified and claim[0]}
        )

    def _check_chain(
        self, release: ReleaseId, chain: Chain, agreed: Agreed, history: AnsweredSums
    ) -> None:
        """Refuse an attempt that this site may not answer."""
        terms, own = self._terms, self._identity.public
        if release.kind not in terms.plans or release.round_number > terms.rounds:
            raise RefusalError(Reason.OVER_BUDGET)
        if not terms.fits(release):
            raise RefusalError(Reason.OUT_OF_ORDER)
        held = history.of(release)
        may_answer = (
            is_nested(chain)
            and own in chain[-1]
            and all(counted(attempt, terms.verified | {own}) >= terms.m for attempt in chain)
            and set(chain[0]) <= set(terms.roster.identities)
            and set(chain[-1]) <= set(agreed.participants)
            and (held is None or extends(held.chain, chain))
        )
        if not may_answer:
            raise RefusalError(Reason.PARTICIPANT_RULE)

    def _check_weights(self, weights: Vector) -> None:
        """Refuse a model of another shape, or with weights at which a gradient could overflow."""
        length = self._terms.plans[GRADIENT].length
        if weights.shape != (length,) or not (np.abs(weights) <= LARGEST_WEIGHT).all():
            raise RefusalError(Reason.OUT_OF_ORDER)

    def _masked(
        self,
        release: ReleaseId,
        transcript: bytes,
        request: SumRequest,
        history: AnsweredSums,
        agreed: Agreed,
    ) -> Words:
        """Return this sum under this site's masks, from what is stored or drawn now."""
        plan = self._terms.plans[release.kind]
        wanted = Wanted(
            release=release,
            study_hash=self._terms.study_hash,
            headline=plan.headline,
            fallback=plan.fallback,
            broadcast=broadcast_hash(request.weights),
            transcript=transcript,
            clip=plan.clip,
            grid_exponent=plan.grid_exponent,
            length=plan.length,
        )

        def payload(stored: Stored) -> tuple[Words, bytes]:
            vector = self._mask(stored, request.chain, agreed)
            return vector, vector.tobytes()

        return stored_release(
            self._ledger,
            wanted,
            lambda moment: self._sources[release.kind].draw(request.weights, moment),
            payload,
            begin=self._begin,
            attempt=AnsweredAttempt(agreed.session, request.chain),
            earlier=_told(history, request.previous, request.closings),
        )

    def _mask(self, stored: Stored, chain: Chain, agreed: Agreed) -> Words:
        """Return a stored vector with this site's masks: never one that is not stored."""
        view = View(
            study_hash=self._terms.study_hash,
            release=stored.release,
            length=stored.vector.size,
            clip=stored.clip,
            grid_exponent=stored.grid_exponent,
            roster_hash=self._terms.roster.hash(),
            participants=tuple(agreed.participants[key] for key in chain[-1]),
            chain=chain,
            broadcast=stored.broadcast,
            history=stored.transcript,
        )
        words = stored.vector.view(np.uint64)
        return masked(words, view, self._identity.public, agreed.secrets)

    def _history(self) -> AnsweredSums:
        return AnsweredSums(self._terms, self._identity, self._ledger)


def _told(history: AnsweredSums, previous: SumRecord | None, closings: Sequence[bytes]) -> Earlier:
    """Return what a request tells of earlier sums: read before anything is written."""
    return Earlier(history.heads(closings), history.closing(previous), history.settling(closings))


@contextmanager
def _as_refusal() -> Iterator[None]:
    """Turn what is wrong with signed statements into the refusal that may leave."""
    try:
        yield
    except MessageError as error:
        raise RefusalError(Reason.BAD_SIGNATURE) from error
