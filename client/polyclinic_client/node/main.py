"""Starts a hospital's node and stops it cleanly."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from polyclinic_client.folder.layout import JOURNAL, SECRETS, read_identity
from polyclinic_client.node.fleet import Fleet
from polyclinic_client.node.health import health
from polyclinic_client.node.node import Node
from polyclinic_client.node.rest import Rest
from polyclinic_client.node.status import StatusFile, only_node
from polyclinic_client.node.warm_worker import WarmWorker
from polyclinic_client.proxy import proxy_for
from polyclinic_client.records.journal import Journal
from polyclinic_common.consortium.address import parted
from polyclinic_common.errors import Code, NodeError
from polyclinic_common.identity import certificates
from polyclinic_common.modes import require_private

IDLE_S = 300.0
LONGEST_S = 900.0
JOIN_ANEW = (
    "Put the file back from a copy; or ask the operator for a new invitation, move consortium.json "
    "and tls.key away and join again: identity, ledger and journal stay."
)


@dataclass(frozen=True)
class NodeSettings:
    """What a node needs to know.

    Attributes
    ----------
    folder : Path
        The hospital's folder.
    address : str
        Host and port of the server.
    certificate, key, authority : Path
        PEM files: what this node shows, and who may have signed the server's certificate.
    opener : str
        ``module:function`` that opens the hospital's sites, given its folder, in the worker.
    idle_s, longest_s : float
        Seconds after which an idle worker is stopped, and after which one is ended that has not
        said when its answer leaves.
    """

    folder: Path
    address: str
    certificate: Path
    key: Path
    authority: Path
    opener: str
    idle_s: float = IDLE_S
    longest_s: float = LONGEST_S


def run_node(
    settings: NodeSettings, ready: Callable[[], None] = lambda: None, rest: Rest | None = None
) -> None:
    """Run the node until SIGTERM or SIGINT.

    Parameters
    ----------
    ready : callable
        Told once that this node, and no other, runs in its folder.
    rest : Rest or None
        Told when messages are answered.

    Raises
    ------
    NodeError
        N001 if the certificate cannot be used, or there is a node in this folder already.
    LedgerError
        If the journal cannot be used.
    ConsortiumError
        C029 if others may read or change what the folder holds, C033 if the proxy that the
        environment names cannot be used.
    """
    require_private(settings.folder, SECRETS)
    context, key = _credentials(settings)
    worker = WarmWorker(settings.opener, settings.folder, settings.idle_s, settings.longest_s)
    identity = read_identity(settings.folder)
    folder = settings.folder
    with only_node(folder), Journal.open(folder / JOURNAL, identity) as journal:
        status = StatusFile(folder, os.getpid())
        fleet = Fleet(settings.address, context, key, proxy_for(*parted(settings.address)))
        node = Node(fleet, worker, journal, status, rest or Rest())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: _interrupt(node))
        try:
            with health(folder):
                ready()
                node.run()
        except KeyboardInterrupt:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)  # it is ending already
            node.leave()


def _interrupt(node: Node) -> None:
    node.stopping.set()
    raise KeyboardInterrupt


def _credentials(settings: NodeSettings) -> tuple[ssl.SSLContext, EllipticCurvePrivateKey]:
    try:
        context = certificates.client_context(
            settings.certificate, settings.key, settings.authority
        )
        key = load_pem_private_key(settings.key.read_bytes(), password=None)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise _no_start("Its certificate or key cannot be read.", JOIN_ANEW) from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise _no_start("Its key is not an elliptic-curve key.", JOIN_ANEW)
    return context, key


def _no_start(what: str, remedy: str) -> NodeError:
    return NodeError(Code.NODE_START, f"The node does not start. {what}", remedy)
