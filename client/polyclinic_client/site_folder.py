"""The folder of one site: its identity key, its ledger and its journal."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from polyclinic_client.journal import Journal
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.sqlite_file import MODE, OpenFiles, absent, coded, damaged, require_local
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.secure_sum.identity import Identity

IDENTITY = "identity.key"
LEDGER = "ledger.sqlite"
JOURNAL = "journal.sqlite"
_PRIVATE_BYTES = 32


@dataclass(frozen=True)
class SiteFolder(OpenFiles):
    """What a site keeps on its own disk; made by `create` or `open`.

    Attributes
    ----------
    path : Path
        The folder, readable by its owner only.
    identity : Identity
        The hospital's long-term key.
    ledger : Ledger
        Its account.
    journal : Journal
        What was asked and what left.
    """

    path: Path
    identity: Identity
    ledger: Ledger
    journal: Journal

    @staticmethod
    def create(
        path: Path,
        *,
        delta: float,
        epsilon_cap: float,
        fallback_cap: float | None = None,
        witness: Path | None = None,
        identity: Identity | None = None,
    ) -> SiteFolder:
        """Make the folder of a new site.

        Parameters
        ----------
        delta, epsilon_cap, fallback_cap, witness
            As `Ledger.create`.
        identity : Identity or None
            The hospital's key; None makes one.

        Raises
        ------
        LedgerError
            L007 if there is a site in that folder, L003 if the disk refuses.
        """
        with coded(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = identity or Identity.generate()
        _write_key(path / IDENTITY, identity)
        ledger = Ledger.create(
            path / LEDGER,
            identity,
            delta=delta,
            epsilon_cap=epsilon_cap,
            fallback_cap=fallback_cap,
            witness=witness,
        )
        return SiteFolder(path, identity, ledger, Journal.create(path / JOURNAL, identity))

    @staticmethod
    def open(path: Path, *, witness: Path | None = None, read_only: bool = False) -> SiteFolder:
        """Open the folder of a site.

        Raises
        ------
        LedgerError
            L001 if something is not there, L002 if it is damaged, L006 if the ledger is behind
            its witness.
        """
        identity = read_identity(path)
        ledger = Ledger.open(path / LEDGER, identity, witness, read_only=read_only)
        try:
            journal = Journal.open(path / JOURNAL, identity, read_only=read_only)
        except BaseException:
            ledger.close()
            raise
        return SiteFolder(path, identity, ledger, journal)

    def close(self) -> None:
        """Close ledger and journal."""
        self.ledger.close()
        self.journal.close()


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


def _write_key(key: Path, identity: Identity) -> None:
    """Write the key where there is none: a site that has one has had a ledger."""
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
