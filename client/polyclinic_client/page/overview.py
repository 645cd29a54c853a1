"""How a hospital stands, on one screen."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from pathlib import Path

from polyclinic_client.accounts.account import account_line
from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.peers import peer_resets
from polyclinic_client.folder.layout import JOURNAL, LEDGER, read_identity
from polyclinic_client.folder.membership import Membership, read_peers, site_certificate
from polyclinic_client.gate.due import OVER
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.witness import read_invented
from polyclinic_client.node.status import read_status
from polyclinic_client.records.journal import Journal
from polyclinic_common.errors import ConsortiumError
from polyclinic_common.identity import certificates
from polyclinic_common.identity.site_key import Identity, fingerprint
from polyclinic_common.text import plain


@dataclass(frozen=True)
class Overview:
    """What `polyclinic client status` shows.

    Attributes
    ----------
    server : str
        ``reached``, or why not.
    node : str
        How this hospital's node is.
    spent, promised, limit : float
        Its account in epsilons: what was charged; that with what open approvals may still cost;
        what it may come to.
    account : str
        Whether this account is the only one of its registry.
    begun_anew : tuple of str
        Hospitals that declared in a run that their ledger was begun anew: by name where this
        hospital verified them, else by fingerprint.
    ticks : tuple of str
        What the times of answers may have told, in words.
    invented_by : tuple of str
        Peers that signed a head which this hospital's ledger can never have had; it is ignored.
    """

    name: str
    consortium: str
    address: str
    server: str
    node: str
    fingerprint: str
    certificate_days: int
    verified_peers: tuple[str, ...]
    approved: tuple[str, ...]
    spent: float
    promised: float
    limit: float
    runs: tuple[str, ...]
    account: str
    begun_anew: tuple[str, ...]
    ticks: tuple[str, ...]
    invented_by: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return it for ``--json``."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it for people; some of it the server said."""
        lines = [
            f"{self.name} in {self.consortium}",
            f"  server        {self.address}: {self.server}",
            f"  node          {self.node}",
            f"  fingerprint   {self.fingerprint}",
            f"  certificate   {self.certificate_days} days left",
            f"  peers         verified: {', '.join(self.verified_peers) or 'none yet'}",
            *(
                f"  warning       {name} names a ledger row that never was"
                for name in self.invented_by
            ),
            *(f"  begun anew    the ledger of {peer}, as it declares" for peer in self.begun_anew),
            f"  account       {self.account}",
            f"  approved      {', '.join(self.approved) or 'nothing'}",
            f"  epsilon       {self.spent:.3f} spent, {self.promised:.3f} with all that is "
            f"promised, of {self.limit:g}",
            *(f"  run           {run}" for run in self.runs),
            *(f"  tick          {tick}" for tick in self.ticks),
        ]
        return [plain(line) for line in lines]


def overview(folder: Path) -> Overview:
    """Return how the site in a folder stands; a server that is not reached is no error here.

    Raises
    ------
    ConsortiumError
        C025 if it has not joined, C003 if a file cannot be used.
    LedgerError
        As `Ledger.open`.
    """
    membership, identity = Membership.read(folder), read_identity(folder)
    with Ledger.open(folder / LEDGER, identity, read_only=True) as ledger:
        budget = ledger.budget()
    pinned = read_peers(folder)
    names = {key: name for name, key in pinned.items()}
    invented = read_invented(folder / LEDGER)
    server, runs = "reached", []
    try:
        with ConsortiumClient.open(folder) as client:
            client.status()
            runs = [
                f"{run.run[:12]} {run.state}, round {run.round_number} of {run.rounds}"
                + (f", {run.note}" if run.note else "")
                for run in client.runs()
            ]
    except ConsortiumError as error:
        server = f"{error.what} [{error.code}]"
    return Overview(
        name=membership.name,
        consortium=membership.consortium,
        address=membership.address,
        server=server,
        node=_node(folder),
        fingerprint=fingerprint(identity.public),
        certificate_days=certificates.days_left(site_certificate(folder), dt.datetime.now(dt.UTC)),
        verified_peers=tuple(pinned),
        invented_by=tuple(name for name, key in pinned.items() if key in invented),
        approved=tuple(sorted({line.study_hash[:12] for line in budget.lines if line.open})),
        spent=budget.spent,
        promised=budget.promised,
        limit=budget.epsilon_cap,
        runs=tuple(runs),
        account=account_line(folder, identity.public),
        begun_anew=tuple(sorted(names.get(key, fingerprint(key)) for key in peer_resets(folder))),
        ticks=_ticks(folder, identity),
    )


def _ticks(folder: Path, identity: Identity) -> tuple[str, ...]:
    """Say of every study what the times of its answers may have told."""
    with Journal.open(folder / JOURNAL, identity, read_only=True) as journal:
        climbs = journal.climbs()
    return tuple(
        f"step {climb.step} of the ladder for study {study.hex()[:12]}: the server may have learnt "
        f"that computing took longer than {climb.outlasted / 1000:g} s (a comparison with the "
        "cohort's size)" + ("; the study is answered no more" if climb.step >= OVER else "")
        for study, climb in sorted(climbs.items())
    )


def _node(folder: Path) -> str:
    status = read_status(folder)
    if status is None:
        return "does not run; start it with: polyclinic client up"
    return "connected" if status.connected else f"not connected ({status.trouble or 'starting'})"
