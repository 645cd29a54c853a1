"""What a hospital has answered in a run of mode secure-sum, as its ledger holds it."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.state import ReleaseState
from polyclinic_client.run.refusals import RefusalError
from polyclinic_client.run.terms import Terms
from polyclinic_common.errors import MessageError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.packing import pack
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain, extends
from polyclinic_common.secure_sum.settlement import AnsweredSum
from polyclinic_common.secure_sum.statements import Closing
from polyclinic_common.wire import Reason, SumRecord


class AnsweredSums:
    """The sums of one run that this site has answered.

    Parameters
    ----------
    terms : Terms
        What was approved.
    identity : Identity
        This hospital's key.
    ledger : Ledger
        This hospital's ledger.
    """

    def __init__(self, terms: Terms, identity: Identity, ledger: Ledger):
        self._terms = terms
        self._identity = identity
        self._ledger = ledger
        self._held = {
            each.reserved.release: each
            for each in ledger.releases_of(terms.run)
            if each.reserved.study_hash == terms.study_hash
        }

    def of(self, release: ReleaseId) -> ReleaseState | None:
        """Return where a release stands; None if it was never reserved."""
        return self._held.get(release)

    def accept(self, release: ReleaseId, previous: SumRecord | None) -> bytes:
        """Return the digest of all sums before `release`.

        Raises
        ------
        RefusalError
            If the sum before, as told, is not the one that this site answered, or the order of
            rounds is not kept.
        """
        transcript = b"" if previous is None else previous.digest(release.run)
        last = max(self._held, key=self._moment, default=None)
        if last is None or last == release:
            return transcript
        if previous is None:
            raise RefusalError(Reason.OUT_OF_ORDER)
        before = ReleaseId(release.run, previous.round_number, previous.kind)
        if not self._moment(last) <= self._moment(before) < self._moment(release):
            raise RefusalError(Reason.OUT_OF_ORDER)
        if last == before and not _is_told_right(self._held[last], previous):
            raise RefusalError(Reason.OUT_OF_ORDER)
        return transcript

    def closing(self, previous: SumRecord | None) -> list[tuple[ReleaseId, Chain]]:
        """Return what accepting this history closes: the sum before, if this site answered it.

        Earlier sums that are open still (this site missed the round after them) are closed over
        the chain that it answered: it answers no further attempt of them.
        """
        if previous is None:
            return []
        before = ReleaseId(self._terms.run, previous.round_number, previous.kind)
        missed = [
            (release, held.chain)
            for release, held in self._held.items()
            if held.closed is None and held.chain and self._moment(release) < self._moment(before)
        ]
        return [*missed, (before, previous.chain)] if before in self._held else missed

    def statement(self, previous: SumRecord | None) -> bytes:
        """Return this site's signed closing of the sum before; empty if it was left out of it."""
        if previous is None:
            return b""
        before = ReleaseId(self._terms.run, previous.round_number, previous.kind)
        held = self._held.get(before)
        if held is None or not held.closed_as_answered or held.chain != previous.chain:
            return b""
        return self._closing(self._answered(held))

    def heads(self, closings: Sequence[bytes]) -> dict[bytes, tuple[int, bytes]]:
        """Return where other hospitals' ledgers stood when they signed these statements."""
        found: dict[bytes, tuple[int, bytes]] = {}
        for said in map(_read, closings):
            if said is not None and said.run == self._terms.run and self._is_peer(said.identity):
                found[said.identity] = max(
                    found.get(said.identity, (0, b"")), (said.counter, said.head)
                )
        return found

    def settling(self, closings: Sequence[bytes]) -> list[tuple[ReleaseId, bytes]]:
        """Return the sums that these statements settle at headline, with the proof."""
        terms, own = self._terms, self._identity.public
        found: list[tuple[ReleaseId, bytes]] = []
        for release, held in self._held.items():
            if held.settled is not None or not held.closed_as_answered:
                continue
            answered = self._answered(held)
            statements = [self._closing(answered), *closings]
            proof = answered.proof(
                statements, verified=terms.verified, own=own, m=terms.m, c=terms.c
            )
            if proof:
                found.append((release, pack(sorted(proof))))
        return found

    def _moment(self, release: ReleaseId) -> tuple[int, int]:
        """Return where a sum stands in its run: by round, then by the order of kinds."""
        kinds = list(self._terms.plans)
        if release.kind not in kinds:
            raise RefusalError(Reason.OUT_OF_ORDER)
        return release.round_number, kinds.index(release.kind)

    def _is_peer(self, identity: bytes) -> bool:
        return identity in self._terms.roster.identities and identity != self._identity.public

    def _closing(self, answered: AnsweredSum) -> bytes:
        head = self._ledger.head()
        return answered.closing(self._identity, head.counter, head.digest)

    def _answered(self, held: ReleaseState) -> AnsweredSum:
        asked = held.reserved
        return AnsweredSum(self._terms.study_hash, asked.release, held.chain, asked.broadcast)


def _read(statement: bytes) -> Closing | None:
    try:
        return read_signed(Closing, statement)
    except MessageError:
        return None


def _is_told_right(held: ReleaseState, previous: SumRecord) -> bool:
    """Say whether the sum before, as told, goes on from what this site answered of it."""
    own = held.reserved
    same = (previous.before, previous.broadcast) == (own.transcript, own.broadcast)
    return same and extends(held.chain, previous.chain)
