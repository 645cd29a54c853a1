"""The folder of one site: its identity key, its ledger and its journal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polyclinic_client.journal import Journal
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.site_files import IDENTITY, JOURNAL, LEDGER, read_identity, write_identity
from polyclinic_client.sqlite_file import OpenFiles, coded
from polyclinic_common.modes import make_private
from polyclinic_common.secure_sum.identity import Identity


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
    ) -> SiteFolder:
        """Make the folder of a new site.

        Parameters
        ----------
        delta, epsilon_cap, fallback_cap, witness, declared_reset
            As `Ledger.create`.
        identity : Identity or None
            The hospital's key; None makes one.
        durable : bool
            As `open_file`: False for simulated hospitals only.

        Raises
        ------
        LedgerError
            L007 if there is a site in that folder, L003 if the disk refuses.
        ConsortiumError
            C029 if the folder belongs to another user.
        """
        with coded(path):
            make_private(path)
        identity = identity or Identity.generate()
        write_identity(path / IDENTITY, identity)
        ledger = Ledger.create(
            path / LEDGER,
            identity,
            delta=delta,
            epsilon_cap=epsilon_cap,
            fallback_cap=fallback_cap,
            witness=witness,
            declared_reset=declared_reset,
            durable=durable,
        )
        journal = Journal.create(path / JOURNAL, identity, durable=durable)
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
