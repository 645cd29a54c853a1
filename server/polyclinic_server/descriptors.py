"""How many connections the server holds: no more than the system lets it open files.

What a process cannot open it cannot accept either, and a listener that is out of descriptors shuts
everybody out. So every listener has its part of the limit, whatever the others do.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

from polyclinic_common.errors import Code, ServerError

MOST_FILES = 65_536
LEAST_FILES = 512
OWN_FILES = 256  # database, logs, runs and their pipes, gRPC's own, one connection too many a port
MOST_HOSPITALS, MOST_UNFINISHED, MOST_LOCAL = 500, 500, 200
PARTS = 8  # of what is left: two each for nodes, handshakes and service, one for each of the others


@dataclass(frozen=True)
class Connections:
    """Most connections of every listener.

    Attributes
    ----------
    nodes : int
        Of hospitals' nodes, which have shown a certificate.
    unfinished : int
        To the same port, still in their TLS handshake.
    service : int
        To the consortium service, in all.
    enrolment : int
        To enrolment, in all.
    local : int
        From this machine.
    """

    nodes: int
    unfinished: int
    service: int
    enrolment: int
    local: int


def raise_limit() -> None:
    """Let this process open as many files as the system allows it, and as it may need.

    Raises
    ------
    ServerError
        V002 if these are too few to serve.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if file_limit() < LEAST_FILES:
        raise ServerError(
            Code.SERVER_START,
            f"The server may open {file_limit()} files and connections; it needs {LEAST_FILES}.",
            f"Raise the limit (LimitNOFILE={4 * LEAST_FILES} in its systemd unit, or ulimit -Hn).",
        )


def file_limit() -> int:
    """Return how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def connections() -> Connections:
    """Return the parts of the limit as it stands, smaller where it is small."""
    part = max(1, (file_limit() - OWN_FILES) // PARTS)
    return Connections(
        nodes=min(MOST_HOSPITALS, 2 * part),
        unfinished=min(MOST_UNFINISHED, 2 * part),
        service=min(MOST_HOSPITALS, 2 * part),
        enrolment=min(MOST_UNFINISHED, part),
        local=min(MOST_LOCAL, part),
    )
