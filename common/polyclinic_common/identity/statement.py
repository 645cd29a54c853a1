"""Statements that a hospital signs."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.identity.site_key import Identity, verify
from polyclinic_common.packing import pack, unpack

Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Count = Annotated[int, Field(ge=0)]
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
