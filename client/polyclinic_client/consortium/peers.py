"""The other hospitals: what the server says of them, and what this hospital has verified itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.folder.layout import JOURNAL, read_identity
from polyclinic_client.folder.membership import read_peers, write_peers
from polyclinic_client.records.journal import Journal
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.identity.certificates import same_fingerprint
from polyclinic_common.identity.site_key import fingerprint

Verified = Literal["this hospital", "verified", "not verified", "CHANGED"]


@dataclass(frozen=True)
class KnownPeer:
    """A hospital of the consortium.

    Attributes
    ----------
    verified : str
        ``CHANGED`` if the server names another key than the one that was verified.
    declared_reset : bool
        Whether it declared in a run that its ledger was begun anew.
    """

    name: str
    state: str
    fingerprint: str
    verified: Verified
    declared_reset: bool


def list_peers(folder: Path, client: ConsortiumClient) -> list[KnownPeer]:
    """Return all hospitals, this one included."""
    pinned, own, anew = read_peers(folder), client.membership.name, peer_resets(folder)
    return [
        KnownPeer(
            peer.name,
            peer.state,
            fingerprint(peer.identity) if peer.identity else "",
            "this hospital"
            if peer.name == own
            else _verified(pinned.get(peer.name), peer.identity),
            peer.identity in anew,
        )
        for peer in client.peers()
    ]


def peer_resets(folder: Path) -> frozenset[bytes]:
    """Return the hospitals that have declared to this one that their ledger was begun anew."""
    with Journal.open(folder / JOURNAL, read_identity(folder), read_only=True) as journal:
        return journal.peer_resets()


def verify_peer(folder: Path, client: ConsortiumClient, name: str, read_out: str) -> None:
    """Pin a hospital's identity key, if its fingerprint is the one that was read out.

    Raises
    ------
    ConsortiumError
        C013 if no such hospital has joined, C010 if the fingerprint differs.
    """
    found = {peer.name: peer.identity for peer in client.peers()}
    if not found.get(name) or name == client.membership.name:
        raise ConsortiumError(
            Code.SITE_STATE,
            f"No other hospital {name!r} has joined this consortium.",
            "See: polyclinic client peers list",
        )
    if not same_fingerprint(fingerprint(found[name]), read_out):
        raise ConsortiumError(
            Code.FINGERPRINT_DIFFERS,
            f"The server shows another key for {name} than the one that was read out.",
            "Compare again; if it stays so, somebody stands between: tell the operator and that "
            "hospital, and approve nothing.",
        )
    write_peers(folder, read_peers(folder) | {name: found[name]})


def _verified(pinned: bytes | None, shown: bytes) -> Verified:
    if pinned is None:
        return "not verified"
    return "verified" if pinned == shown else "CHANGED"
