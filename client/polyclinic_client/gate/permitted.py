"""What may leave: every kind of message, and what must be true of it.

Free are the messages into which no patient goes, and each class says why. All else must be in the
schedule of the study, and the ledger must hold its charge and the hash of this very payload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from polyclinic_client.ledger.ledger import Ledger, Stored
from polyclinic_client.records.entry import LedgerHead
from polyclinic_client.records.journal import Asked
from polyclinic_common.errors import Code, GateError
from polyclinic_common.identity.statement import Statement, read_signed
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.statements import Closing, KeyAnnouncement, KeyAnswer
from polyclinic_common.wire import (
    AnnouncedKeys,
    AnsweredKeys,
    CastVote,
    ClosedSum,
    MaskedVector,
    PrivateUpdate,
    Receipt,
    Refusal,
    Release,
)

KEM_KEYS, KEM_CIPHERTEXT = (0, 1184), 1088  # bytes: ML-KEM-768 (FIPS 203, table 3), or none


@dataclass(frozen=True)
class Permitted:
    """What one hospital may let out for one study.

    Attributes
    ----------
    identity : bytes
        This hospital's identity key.
    ledger : Ledger
        Holds every charge and the hash of every payload.
    allowed : mapping
        In which rounds a kind of release may leave, as the schedule says; others may not.
    """

    identity: bytes
    ledger: Ledger
    allowed: Mapping[str, Collection[int]] = field(default_factory=dict)

    def charge(self, release: Release, asked: Asked) -> Charge | None:
        """Return what a permitted release was charged; None if no patient goes into it.

        Raises
        ------
        GateError, MessageError, ValidationError
            If it may not leave.
        """
        kind = type(release)
        if kind not in get_args(Release):
            raise stopped("its kind is unknown")
        kind(**vars(release))  # refuses any other, missing or further content
        match release:
            case MaskedVector() | PrivateUpdate():
                return self._check_vector(release, asked)
            case CastVote():
                return self._charged(release, asked, bytes([release.in_favour])).fallback
            case AnnouncedKeys() | AnsweredKeys() | ClosedSum():
                self._check_statement(release.said, release.statement, asked)
            case Receipt():
                if release.run_id != asked.run or asked.run not in self.ledger.state.closed_runs:
                    raise stopped("that run is not over")
            case Refusal():
                pass
            case _:
                raise stopped("no rule says that it may leave")
        return None

    def _check_vector(self, release: MaskedVector | PrivateUpdate, asked: Asked) -> Charge:
        """Return the charge that the ledger holds for exactly this payload."""
        epoch, attempt = b"", 0
        if isinstance(release, MaskedVector):
            epoch, attempt = release.session, release.attempt
            if release.closing:
                self._check_statement(Closing, release.closing, asked)
        if attempt != asked.attempt:
            raise stopped("it does not answer what was asked")
        if type(release.vector) is not np.ndarray:
            raise stopped("its vector is not a plain one")
        held = self._charged(release, asked, release.vector.tobytes(), epoch, attempt)
        if np.array_equal(release.vector.view(np.int64), held.vector):
            raise stopped("no mask is on it")
        return held.fallback

    def _charged(
        self,
        release: MaskedVector | PrivateUpdate | CastVote,
        asked: Asked,
        content: bytes,
        epoch: bytes = b"",
        attempt: int = 0,
    ) -> Stored:
        """Return what the ledger holds for exactly this payload, in a round of the schedule."""
        answers = release.study_hash, release.run_id, release.round_number
        if answers != (asked.study_hash.hex(), asked.run, asked.round_number):
            raise stopped("it does not answer what was asked")
        if asked.round_number not in self.allowed.get(release.kind, ()):
            raise stopped("the study makes no such release in this round")
        name = ReleaseId(release.run_id, release.round_number, release.kind)
        payload = hashlib.sha256(content).digest()
        held = self.ledger.stored(name)
        recorded = self.ledger.payload_is_recorded(name, epoch, attempt, payload)
        if held is None or not recorded or held.study_hash != asked.study_hash:
            raise stopped("the ledger holds no charge for it")
        return held

    def _check_statement(self, kind: type[Statement], statement: bytes, asked: Asked) -> None:
        """Stop what this hospital did not sign, or what its ledger does not say."""
        said = read_signed(kind, statement)
        if said.identity != self.identity:
            raise stopped("another hospital signed it")
        if (said.study_hash, said.run) != (asked.study_hash, asked.run):
            raise stopped("it does not answer what was asked")
        match said:
            case KeyAnnouncement():
                own = LedgerHead(said.counter, said.head)
                true = self.ledger.knows(own) and self._has_seen(said.heads)
                true = true and len(said.kem_key) in KEM_KEYS
                true = true and said.declared_reset == self.ledger.declared_reset
            case KeyAnswer():
                sizes = {len(ciphertext) for _, ciphertext in said.ciphertexts}
                true = self._has_seen(said.receipts) and sizes <= {KEM_CIPHERTEXT}
            case _:
                true = isinstance(said, Closing) and self._has_closed(said)
        if not true:
            raise stopped("the ledger does not bear it out")

    def _has_seen(self, heads: Iterable[tuple[bytes, int, bytes]]) -> bool:
        seen = self.ledger.heads_seen
        return all(
            peer in seen and counter <= seen[peer].counter and len(digest) == len(seen[peer].digest)
            for peer, counter, digest in heads
        )

    def _has_closed(self, said: Closing) -> bool:
        name = ReleaseId(said.run, said.round_number, said.kind)
        return self.ledger.knows(LedgerHead(said.counter, said.head)) and any(
            held.closed_as_answered
            and (held.chain, held.reserved.broadcast) == (said.chain, said.broadcast)
            for held in self.ledger.releases_of(said.run)
            if (held.reserved.release, held.reserved.study_hash) == (name, said.study_hash)
        )


def stopped(why: str) -> GateError:
    """Return the error for what may not leave."""
    return GateError(
        Code.GATE_REFUSED,
        f"Something was stopped at the gate: {why}.",
        "Nothing left; report it as a defect.",
    )
