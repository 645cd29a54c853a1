"""The folder of one site: its identity key, its ledger and its journal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polyclinic_client.folder.layout import (
    IDENTITY,
    JOURNAL,
    LEDGER,
    finish,
    read_identity,
    read_unfinished,
    write_unfinished,
)
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.witness import read_witness
from polyclinic_client.records.chained_log import Clock, unix_ms
from polyclinic_client.records.journal import Journal
from polyclinic_client.records.sqlite_file import OpenFiles, coded
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.modes import make_private


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
        declared_reset: bool = False,
        durable: bool = True,
        clock: Clock = unix_ms,
    ) -> SiteFolder:
        """Make the folder of a new site; cut off anywhere, it can be called again.

        Its key gets its name last. Until then nothing can have been released or promised, so what
        an earlier call left is taken away; the key itself is used again.

        Parameters
        ----------
        delta, epsilon_cap, fallback_cap, witness, declared_reset
            As `Ledger.create`.
        identity : Identity or None
            The hospital's key; None makes one, or takes that of an earlier call.
        durable : bool
            As `open_file`: False for simulated hospitals only.
        clock : callable
            As `ChainedLog.create`; that of ledger and journal.

        Raises
        ------
        LedgerError
            L007 if there is a site in that folder, L003 if the disk refuses.
        ConsortiumError
            C029 if the folder belongs to another user.
        """
        with coded(path):
            make_private(path)
        begun = read_unfinished(path)
        if begun is not None and identity in (None, begun):
            _clear(path, begun, witness)
        _require_empty(path)
        identity = identity or begun or Identity.generate()
        write_unfinished(path, identity)
        ledger = Ledger.create(
            path / LEDGER,
            identity,
            delta=delta,
            epsilon_cap=epsilon_cap,
            fallback_cap=fallback_cap,
            witness=witness,
            declared_reset=declared_reset,
            durable=durable,
            clock=clock,
        )
        try:
            journal = Journal.create(path / JOURNAL, identity, durable=durable, clock=clock)
            finish(path)
        except BaseException:
            ledger.close()
            raise
        return SiteFolder(path, identity, ledger, journal)

    @staticmethod
    def open(
        path: Path,
        *,
        witness: Path | None = None,
        read_only: bool = False,
        durable: bool = True,
    ) -> SiteFolder:
        """Open the folder of a site; `durable` as in `create`.

        Raises
        ------
        LedgerError
            L001 if something is not there, L002 if it is damaged, L006 if the ledger is behind
            its witness.
        """
        identity = read_identity(path)
        ledger = Ledger.open(path / LEDGER, identity, witness, read_only=read_only, durable=durable)
        try:
            journal = Journal.open(path / JOURNAL, identity, read_only=read_only, durable=durable)
        except BaseException:
            ledger.close()
            raise
        return SiteFolder(path, identity, ledger, journal)

    def close(self) -> None:
        """Close ledger and journal."""
        self.ledger.close()
        self.journal.close()


def _clear(path: Path, begun: Identity, witness: Path | None) -> None:
    """Take away the ledger, journal and witness of a site that was begun and never finished."""
    with coded(path):
        for name in (LEDGER, JOURNAL):
            for file in path.glob(f"{name}*"):
                file.unlink()
    if witness is not None and witness.exists() and _is_of_first_row(witness, begun):
        with coded(witness):
            witness.unlink()


def _require_empty(path: Path) -> None:
    """Refuse a folder with a ledger whose key is gone: a new key would have it taken for begun."""
    left = [name for name in (LEDGER, JOURNAL) if (path / name).exists()]
    if left and not (path / IDENTITY).exists():
        raise LedgerError(
            Code.LEDGER_EXISTS,
            f"{path} holds {' and '.join(left)} without the hospital's key.",
            f"Put {IDENTITY} back from a copy, or name another folder.",
        )


def _is_of_first_row(witness: Path, begun: Identity) -> bool:
    """Say whether a witness knows the beginning of this hospital's ledger and nothing more."""
    try:
        return read_witness(witness, begun.public).counter == 1
    except LedgerError:
        return False
