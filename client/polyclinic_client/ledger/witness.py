"""A small signed file outside the ledger's volume: it knows how far the ledger had come.

It is rewritten after every transaction, so it is behind by at most the transaction that a crash
cut off from it. A ledger behind its witness was put back from a copy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from polyclinic_client.ledger.entries import Share
from polyclinic_client.records.entry import Digest, Entry, LedgerHead
from polyclinic_client.records.sqlite_file import MODE, coded, damaged
from polyclinic_common.errors import Code, LedgerError, MessageError
from polyclinic_common.files import write_atomically
from polyclinic_common.identity.site_key import Identity, verify
from polyclinic_common.packing import pack, unpack


class Testimony(Entry):
    """What a witness says.

    Attributes
    ----------
    counter, digest : int, bytes
        The ledger's head, as others see it.
    most : tuple of Share
        What the account can come to: every release made, and every one that is still approved, at
        fallback. If rows are lost they can have held no more.
    """

    public: Digest
    counter: int
    digest: Digest
    most: tuple[Share, ...]
    signature: bytes = b""

    def content(self) -> bytes:
        """Return the bytes that are signed."""
        return pack(["polyclinic witness", self.model_copy(update={"signature": b""}).body()])

    @property
    def head(self) -> LedgerHead:
        """The ledger's head when this was written."""
        return LedgerHead(self.counter, self.digest)


def write_witness(
    path: Path, identity: Identity, head: LedgerHead, most: tuple[Share, ...]
) -> None:
    """Rewrite the witness, whole or not at all, and wait until it is on the disk."""
    unsigned = Testimony(
        public=identity.public, counter=head.counter, digest=head.digest, most=most
    )
    signed = unsigned.model_copy(update={"signature": identity.sign(unsigned.content())})
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with coded(path):
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
        with os.fdopen(handle, "wb") as file:
            file.write(signed.body())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_witness(path: Path, public: bytes) -> Testimony:
    """Return what the witness says.

    Raises
    ------
    LedgerError
        L006 if there is none, L002 if this hospital did not sign it.
    """
    if not path.is_file():
        raise LedgerError(
            Code.LEDGER_BEHIND,
            f"The witness {path} is not there; without it an old copy of the ledger could pass.",
            "Mount its volume, or begin a new one: polyclinic client ledger recover --new-witness",
        )
    with coded(path):
        content = path.read_bytes()
    try:
        testimony = Testimony.model_validate_json(content)
    except ValidationError:
        raise damaged(path, "it is not a witness") from None
    if testimony.public != public or not verify(public, testimony.content(), testimony.signature):
        raise damaged(path, "it is not signed by this hospital")
    return testimony


def write_claim(ledger: Path, claim: LedgerHead) -> None:
    """Keep what another hospital has seen of this ledger and this ledger does not know."""
    write_atomically(_claim_file(ledger), pack([claim.counter, claim.digest]))


def read_claims(ledger: Path) -> list[LedgerHead]:
    """Return what was kept by `write_claim`; what is damaged is as good as nothing."""
    try:
        parts = unpack(_claim_file(ledger).read_bytes())
    except (OSError, MessageError):
        return []
    match parts:
        case (int() as counter, bytes() as digest):
            return [LedgerHead(counter, digest)]
    return []


def write_invented(ledger: Path, told: Mapping[bytes, LedgerHead]) -> None:
    """Keep which peers, by identity key, signed heads that this ledger can never have had."""
    write_atomically(_invented_file(ledger), pack([[peer, *told[peer]] for peer in sorted(told)]))


def read_invented(ledger: Path) -> dict[bytes, LedgerHead]:
    """Return what was kept by `write_invented`; what is damaged is as good as nothing."""
    try:
        parts = unpack(_invented_file(ledger).read_bytes())
    except (OSError, MessageError):
        return {}
    found: dict[bytes, LedgerHead] = {}
    for part in parts if isinstance(parts, tuple) else ():
        match part:
            case (bytes() as peer, int() as counter, bytes() as digest):
                found[peer] = LedgerHead(counter, digest)
    return found


def _invented_file(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.invented")


def _claim_file(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.claim")
