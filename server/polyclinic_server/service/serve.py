"""Starting and stopping the consortium service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from polyclinic_common.consortium import consortium_pb2 as pb
from polyclinic_common.consortium.address import host_port, read_host
from polyclinic_common.consortium.consortium_pb2_grpc import (
    add_ConsortiumServicer_to_server,
    add_EnrolmentServicer_to_server,
)
from polyclinic_common.consortium.transport import LARGEST_JOINING, LARGEST_MESSAGE, limits
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.identity.certificates import Certificate
from polyclinic_server.descriptors import connections
from polyclinic_server.folder import AUTHORITY, SERVER, SERVER_KEY, ServerFolder
from polyclinic_server.service.bundles import MOST_FETCHES
from polyclinic_server.service.consortium import MOST_WATCHERS, Consortium
from polyclinic_server.service.enrolment import Enrolment
from polyclinic_server.service.guard import Admit, Guard, caller, may_connect
from polyclinic_server.service.places import Places
from polyclinic_server.service.rate import RateLimit
from polyclinic_server.store.store import Store

WORKERS = 16
SERVICE_WORKERS = WORKERS + MOST_WATCHERS + MOST_FETCHES
MOST_CALLS = 10  # of one hospital at a time
GRACE_S = 2.0
HANDSHAKE_MS = 5_000
# How long a connection lasts, and how many calls it makes at a time. A stranger who has no
# certificate to show is to make one call and go: what hangs is cut off, with its calls.
STRANGERS_STAY = [
    ("grpc.max_concurrent_streams", 2),
    ("grpc.max_connection_idle_ms", 5_000),
    ("grpc.max_connection_age_ms", 30_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
]
HOSPITALS_STAY = [
    ("grpc.max_concurrent_streams", SERVICE_WORKERS),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.max_connection_age_ms", 3_600_000),
]


@dataclass(frozen=True)
class ConsortiumHandle:
    """A running consortium service; its threads are its own, so it runs beside any event loop.

    Attributes
    ----------
    store : Store
        The store that it uses, for others in the same process.
    """

    store: Store
    servers: tuple[grpc.Server, ...]

    def may_connect(self, certificate: Certificate) -> bool:
        """Say whether the owner of a certificate, already checked by TLS, may connect now."""
        try:
            may_connect(self.store, certificate)
        except ConsortiumError:
            return False
        return True

    def stop(self) -> None:
        """Stop listening, let open calls end within two seconds, close the store."""
        for stopped in [server.stop(GRACE_S) for server in self.servers]:
            stopped.wait()
        self.store.close()


def serve_consortium(
    folder: ServerFolder, clock: Callable[[], float] = time.time
) -> ConsortiumHandle:
    """Listen for hospitals: enrolment on one port, everything else on another.

    Parameters
    ----------
    clock : callable
        Tells Unix time in seconds.

    Raises
    ------
    ConsortiumError
        C003 if a key or certificate is not there, C027 if a port is taken.
    """
    store, settings = folder.open_store(clock), folder.settings
    tries, most = RateLimit(), connections()

    @contextmanager
    def tried(context: grpc.ServicerContext) -> Iterator[None]:
        tries.count(context.peer())
        yield

    places = Places(SERVICE_WORKERS, MOST_CALLS)
    enrolment = _server(
        tried,
        LARGEST_JOINING,
        WORKERS,
        most.enrolment,
        STRANGERS_STAY,
    )
    add_EnrolmentServicer_to_server(Enrolment(folder, store, tries), enrolment)
    consortium = _server(
        lambda context: places.taken(caller(store, context).name),
        LARGEST_MESSAGE,
        SERVICE_WORKERS,
        most.service,
        HOSPITALS_STAY,
    )
    add_ConsortiumServicer_to_server(Consortium(folder, store, clock), consortium)
    _add_health_and_reflection(enrolment, "Enrolment")
    _add_health_and_reflection(consortium, "Consortium")
    ports, listen = settings.ports, read_host(settings.listen)
    _listen(enrolment, listen, ports.enrolment, _credentials(folder, mutual=False))
    _listen(consortium, listen, ports.consortium, _credentials(folder, mutual=True))
    for server in (enrolment, consortium):
        server.start()
    return ConsortiumHandle(store, (enrolment, consortium))


def _server(
    admit: Admit, largest: int, workers: int, most: int, stay: Sequence[tuple[str, int]]
) -> grpc.Server:
    """Return a server that takes at most so many connections, unfinished ones among them."""
    return grpc.server(
        ThreadPoolExecutor(workers),
        interceptors=[Guard(admit)],
        options=[
            *limits(largest),
            *stay,
            ("grpc.so_reuseport", 0),
            ("grpc.max_allowed_incoming_connections", most),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ],
        maximum_concurrent_rpcs=2 * workers,
    )


def _credentials(folder: ServerFolder, *, mutual: bool) -> grpc.ServerCredentials:
    try:
        pair = [((folder.path / name).read_bytes()) for name in (SERVER_KEY, SERVER)]
        authority = (folder.path / AUTHORITY).read_bytes()
    except OSError as error:
        raise ConsortiumError(
            Code.CONSORTIUM_FILE,
            f"{error.filename} cannot be read.",
            "Put the file back from a copy.",
        ) from None
    return grpc.ssl_server_credentials(
        [(pair[0], pair[1])],
        root_certificates=authority if mutual else None,
        require_client_auth=mutual,
    )


def _listen(
    server: grpc.Server, address: str, port: int, credentials: grpc.ServerCredentials
) -> None:
    try:
        server.add_secure_port(host_port(address, port), credentials)
    except RuntimeError:
        raise ConsortiumError(
            Code.PORT_TAKEN,
            f"The server cannot listen on {host_port(address, port)}.",
            "Stop what listens there, or set another port, or an address of this machine to listen "
            "on, in config.toml.",
        ) from None


def _add_health_and_reflection(server: grpc.Server, service: str) -> None:
    name = pb.DESCRIPTOR.services_by_name[service].full_name
    servicer = health.HealthServicer()
    set_status: Callable[[str, int], None] = servicer.set
    for each in ("", name):
        set_status(each, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    shown = (name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(shown, server)
