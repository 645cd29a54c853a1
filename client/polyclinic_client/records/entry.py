"""What rows of chained logs have in common."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from polyclinic_common.errors import Code, LedgerError

Digest = Annotated[bytes, Field(min_length=32, max_length=32)]


class Entry(BaseModel):
    """A row's content: immutable, nothing unknown, bytes written in hexadecimal."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_bytes="hex",
        val_json_bytes="hex",
    )

    def body(self) -> bytes:
        """Return the row's JSON: fields in their order, no white space; hashed as it is stored."""
        return self.model_dump_json().encode()


def unreadable(why: str) -> LedgerError:
    """Return the error for a signed row that makes no sense to this version."""
    return LedgerError(
        Code.LEDGER_DAMAGED,
        f"The ledger holds a row that this version cannot use ({why}); nothing leaves.",
        "Use the version of Polyclinic that wrote it, or a later one.",
    )


class LedgerHead(NamedTuple):
    """How far a ledger has come: the number of its last row, and the salted hash of it."""

    counter: int
    digest: bytes
