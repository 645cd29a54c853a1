"""When a sum has cost its headline price: closing statements over a site's own chain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from polyclinic_common.errors import MessageError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain, statements_needed
from polyclinic_common.secure_sum.statements import Closing


@dataclass(frozen=True)
class AnsweredSum:
    """A sum as one site answered it: what its closing statement says.

    Attributes
    ----------
    study_hash : bytes
        The study.
    release : ReleaseId
        The sum.
    chain : Chain
        The chain that this site answered last.
    broadcast : bytes
        Hash of the model that was sent out.
    """

    study_hash: bytes
    release: ReleaseId
    chain: Chain
    broadcast: bytes

    def closing(self, identity: Identity, counter: int, head: bytes) -> bytes:
        """Return this member's signed statement that it answers no further attempt.

        `counter` and `head` say where its ledger stands.
        """
        return Closing(
            identity=identity.public,
            study_hash=self.study_hash,
            run=self.release.run,
            round_number=self.release.round_number,
            kind=self.release.kind,
            chain=self.chain,
            broadcast=self.broadcast,
            counter=counter,
            head=head,
        ).signed(identity)

    def closed_by(self, statement: bytes) -> bytes | None:
        """Return the member of the last set whose closing of exactly this sum it is, or None."""
        try:
            said = read_signed(Closing, statement)
        except MessageError:
            return None
        same = (
            said.study_hash == self.study_hash
            and ReleaseId(said.run, said.round_number, said.kind) == self.release
            and said.chain == self.chain
            and said.broadcast == self.broadcast
        )
        member = same and bool(self.chain) and said.identity in self.chain[-1]
        return said.identity if member else None

    def proof(
        self, statements: Iterable[bytes], *, verified: frozenset[bytes], own: bytes, m: int, c: int
    ) -> tuple[bytes, ...]:
        """Return statements that make this sum cost its headline price; none if they do not.

        Needed are more than |P1| - m + c members of the last set, this site included; only
        hospitals that this one has `verified`, and itself, are counted. Then more honest members
        than any other chain could do without have closed: no second, smaller sum can exist.
        """
        if not self.chain:
            return ()
        needed, closed = statements_needed(self.chain, m, c), dict[bytes, bytes]()
        for statement in statements:
            member = self.closed_by(statement)
            if member is not None and member in verified | {own}:
                closed[member] = statement
            if own in closed and len(closed) >= needed:
                return tuple(closed.values())
        return ()
