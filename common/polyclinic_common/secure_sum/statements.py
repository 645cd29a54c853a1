"""What hospitals sign: key announcements, key answers and closing statements.

A statement on the wire is ``pack([body, signature])`` with ``body = pack([label, field, ...])``
and the Ed25519 signature over the body; the key that signs is the field `identity`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from polyclinic_common.identity.statement import Count, Digest, Statement
from polyclinic_common.secure_sum.chain import Chain

MOST_ROWS = 2**53  # exact in every JSON number; a thousand rows a second for 285,000 years
Rows = Annotated[int, Field(ge=0, le=MOST_ROWS)]
Head = tuple[Digest, Count, Digest]  # what is said of another's ledger; that hospital judges it


class KeyAnnouncement(Statement):
    """A site's keys for one run and epoch, and where its ledger stands.

    Attributes
    ----------
    epoch : bytes
        Sixteen random bytes, new for every run and start of the worker: also what peers answer.
    expires : int
        Unix time in seconds after which nobody may use these keys.
    roster_hash : bytes
        The roster as this site knows it.
    agreement_key : bytes
        Ephemeral X25519 key.
    kem_key : bytes
        Ephemeral ML-KEM-768 key; empty where the installed cryptography has none.
    counter, head : int, bytes
        Rows in this site's ledger, and the salted hash of the last.
    heads : tuple of (identity, counter, head)
        The highest that this site has seen of others.
    declared_reset : int
        1 if its ledger was begun anew after an earlier one, as the hospital declares; else 0.
    """

    label: ClassVar[str] = "polyclinic key announcement"

    epoch: Annotated[bytes, Field(min_length=16, max_length=16)]
    expires: Count
    roster_hash: Digest
    agreement_key: Digest
    kem_key: bytes
    counter: Rows
    head: Digest
    heads: tuple[Head, ...]
    declared_reset: Annotated[int, Field(ge=0, le=1)]


class KeyAnswer(Statement):
    """A site's answer to all announcements of a run.

    Attributes
    ----------
    session : bytes
        Hash of all announcements: sites that were shown different ones share no mask.
    ciphertexts : tuple of (identity, bytes)
        ML-KEM-768 ciphertexts for peers with a higher identity key.
    receipts : tuple of (identity, counter, head)
        The highest ledger head that this site has ever seen of every peer, earlier than its
        present announcement.
    """

    label: ClassVar[str] = "polyclinic key answer"

    session: Digest
    ciphertexts: tuple[tuple[Digest, bytes], ...]
    receipts: tuple[Head, ...]


class Closing(Statement):
    """A member of the last attempt's set answers no further attempt of this sum.

    Attributes
    ----------
    round_number, kind, chain, broadcast : int, str, Chain, bytes
        The sum, the chain that this member answered, and the hash of the model that was sent out.
    counter, head : int, bytes
        Rows in this site's ledger when it signed, and the salted hash of the last: peers keep it,
        so that a copy of the ledger from the middle of a run is found to be behind.
    """

    label: ClassVar[str] = "polyclinic closing"

    round_number: Count
    kind: str
    chain: Chain
    broadcast: Digest
    counter: Rows
    head: Digest
