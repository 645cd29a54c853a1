"""What lies in a site's folder, and the identity key in it; nothing here opens a ledger."""

from __future__ import annotations

import os
from pathlib import Path

from polyclinic_client.records.sqlite_file import MODE, absent, coded, damaged, require_local
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity

IDENTITY, LEDGER, JOURNAL = "identity.key", "ledger.sqlite", "journal.sqlite"
STUDIES, APPROVAL = "studies", "approval.bin"
UNFINISHED = f"{IDENTITY}.unfinished"  # the key while a site is made: it gets its name last
SECRETS = (
    IDENTITY,
    UNFINISHED,
    "tls.key",
    LEDGER,
    f"{LEDGER}-*",  # what SQLite keeps beside it
    JOURNAL,
    f"{JOURNAL}-*",
    "peers.json",
    "studies/**/*",  # the folder around them holds nothing but their hashes
    "calibrations/*",
    "monitor/*",
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
    return _read(key)


def approved_studies(path: Path) -> list[str]:
    """Return the hashes of the studies that a site has ever approved, in hexadecimal."""
    return sorted(file.parent.name for file in (path / STUDIES).glob(f"*/{APPROVAL}"))


def read_unfinished(path: Path) -> Identity | None:
    """Return the identity of a site whose making was cut off, if there is one.

    Raises
    ------
    LedgerError
        L003 if it cannot be read.
    """
    key = path / UNFINISHED
    if (path / IDENTITY).exists() or not key.is_file() or key.stat().st_size != _PRIVATE_BYTES:
        return None  # a key that was not written whole has signed nothing
    return _read(key)


def _read(key: Path) -> Identity:
    with coded(key):
        private = key.read_bytes()
    if len(private) != _PRIVATE_BYTES:
        raise damaged(key, "it is not an identity key")
    return Identity.from_private(private)


def write_unfinished(path: Path, identity: Identity) -> None:
    """Write the key of a site that is being made, where there is no site.

    Raises
    ------
    LedgerError
        L007 if there is one: a site that has a key has had a ledger.
    """
    key = path / UNFINISHED
    require_local(key)
    if (path / IDENTITY).exists():
        raise LedgerError(
            Code.LEDGER_EXISTS,
            f"{path} is a site's folder already, and it is left as it is.",
            "Use it, or name another folder.",
        )
    with coded(key):
        handle = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
        with os.fdopen(handle, "wb") as file:
            file.write(identity.private)
            file.flush()
            os.fsync(file.fileno())


def finish(path: Path) -> None:
    """Give the key its name: from now on this is a site, and all of it is there."""
    with coded(path):
        (path / UNFINISHED).rename(path / IDENTITY)
        _sync(path)


def begin_again(path: Path) -> None:
    """Take the name from a key: what lies beside it is made anew.

    For a site whose account holds nothing and that has joined nothing; see `join`.
    """
    with coded(path):
        (path / IDENTITY).rename(path / UNFINISHED)
        _sync(path)


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
