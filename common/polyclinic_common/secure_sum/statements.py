"""What hospitals sign: key announcements, key answers and closing statements.

A statement on the wire is ``pack([body, signature])`` with ``body = pack([label, field, ...])``
and the Ed25519 signature over the body; the key that signs is the field `identity`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.identity.site_key import Identity, verify
from polyclinic_common.packing import pack, unpack
from polyclinic_common.secure_sum.chain import Chain

Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Count = Annotated[int, Field(ge=0)]
MOST_ROWS = 2**53  # exact in every JSON number; a thousand rows a second for 285,000 years
Rows = Annotated[int, Field(ge=0, le=MOST_ROWS)]
Head = tuple[Digest, Count, Digest]  # what is said of another's ledger; that hospital judges it
KEPT = 256


class Statement(BaseModel):
    """A signed statement; its fields are exactly what is signed, in this order."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    label: ClassVar[str]

    identity: Digest
    study_hash: Digest
    run: str

    def body(self) -> bytes:
        """Return the bytes that are signed."""
        values = [getattr(self, name) for name in type(self).model_fields]
        return pack([self.label, *values])

    def signed(self, identity: Identity) -> bytes:
        """Return the statement with its signature, as it travels."""
        body = self.body()
        return pack([body, identity.sign(body)])


class KeyAnnouncement(Statement):
    """A site's keys for one run and epoch, and where its ledger stands.

    Attributes
    ----------
    epoch : bytes
        Sixteen random bytes, new at every start of the node: also the challenge that peers answer.
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


S = TypeVar("S", bound=Statement)


def read_signed(kind: type[S], data: bytes) -> S:
    """Return the statement in `data`; one that was found good is not checked again.

    Raises
    ------
    MessageError
        If it is not such a statement, or not signed by the identity that it names.
    """
    statement: S = _checked(kind, data)
    return statement


@lru_cache(maxsize=KEPT)
def _checked(kind: type[S], data: bytes) -> S:
    parts = unpack(data)
    match parts:
        case (bytes() as body, bytes() as signature):
            statement = _read_body(kind, body)
        case _:
            raise refused("it is not a signed statement")
    if not verify(statement.identity, body, signature):
        raise refused("its signature is not that of the hospital it names")
    return statement


def _read_body(kind: type[S], body: bytes) -> S:
    names = list(kind.model_fields)
    parts = unpack(body)
    if not isinstance(parts, tuple) or len(parts) != len(names) + 1 or parts[0] != kind.label:
        raise refused(f"it is not a {kind.label.removeprefix('polyclinic ')}")
    try:
        return kind.model_validate(dict(zip(names, parts[1:], strict=True)))
    except ValidationError:
        raise refused("a field of a signed statement is out of range") from None


def refused(why: str) -> MessageError:
    """Return the error for a message that breaks the protocol."""
    return MessageError(
        Code.PROTOCOL_REFUSED,
        f"A message of the secure sum was refused: {why}.",
        "Report it to the operator; no mask was made.",
    )
