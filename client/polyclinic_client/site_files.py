"""What lies in a site's folder, and the identity key in it; nothing here opens a ledger."""

from __future__ import annotations

import os
from pathlib import Path

from polyclinic_client.sqlite_file import MODE, absent, coded, damaged, require_local
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.secure_sum.identity import Identity

IDENTITY, LEDGER, JOURNAL = "identity.key", "ledger.sqlite", "journal.sqlite"
SECRETS = (
    IDENTITY,
    "tls.key",
    LEDGER,
    f"{LEDGER}-*",  # what SQLite keeps beside it
    JOURNAL,
    f"{JOURNAL}-*",
    "peers.json",
    "studies/**/*",  # the folder around them holds nothing but their hashes
)
_PRIVATE_BYTES = 32


def read_identity(path: Path) -> Identity:
    """Return the identity kept in a site's folder.

    Raises
    ------
    LedgerError
        L001 if there is none, L002 if it is not 32 bytes.
    """
    key = path / IDENTITY
    if not key.is_file():
        raise absent(key)
    with coded(key):
        private = key.read_bytes()
    if len(private) != _PRIVATE_BYTES:
        raise damaged(key, "it is not an identity key")
    return Identity.from_private(private)


def write_identity(key: Path, identity: Identity) -> None:
    """Write the key where there is none: a site that has one has had a ledger.

    Raises
    ------
    LedgerError
        L007 if there is one.
    """
    require_local(key)
    with coded(key):
        try:
            handle = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        except FileExistsError:
            raise LedgerError(
                Code.LEDGER_EXISTS,
                f"{key.parent} is a site's folder already, and it is left as it is.",
                "Use it, or name another folder.",
            ) from None
        with os.fdopen(handle, "wb") as file:
            file.write(identity.private)
            file.flush()
            os.fsync(file.fileno())
