"""The two listeners: one for hospitals, with certificates on both sides, and one on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from h11 import IDLE
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from polyclinic_common.errors import Code, ServerError
from polyclinic_common.identity import certificates
from polyclinic_server.descriptors import connections
from polyclinic_server.superlink.door import Door

HEAD_S = 10.0
LARGEST_HEAD = 16 * 1024
KEEP_ALIVE_S = 60
MOST_OF_A_SITE = 8  # connections with one certificate: a node uses two or three
GRACE_S = 3
BACKLOG = 1024  # waiting to be accepted: these take no descriptor
LOCAL_BACKLOG = 16  # uvicorn accepts so many at a time, before it counts them


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """Return what the public listener speaks TLS with.

    Raises
    ------
    ServerError
        V002 if a file cannot be used.
    """
    try:
        return certificates.server_context(certificate, key, authority)
    except OSError as error:  # SSLError is one
        raise ServerError(
            Code.SERVER_START,
            "The server's certificate, its key or the authority's certificate cannot be used.",
            "Check these files; `polyclinic server init` made them.",
        ) from error


class HospitalProtocol(H11Protocol):
    """HTTP/1.1 that passes the certificate on, and hangs up on who does not come to the point."""

    _patience: asyncio.TimerHandle | None = None
    _shown = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the certificate; hang up where its owner, or everybody, has too many connections."""
        super().connection_made(transport)
        self._shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(self._shown)
        self.app_state = self.app_state | {"certificate": certificate}
        self._wait_for_head()
        same = [c for c in self.connections if getattr(c, "_shown", b"") == self._shown]
        if len(same) > MOST_OF_A_SITE or _are_too_many(self):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Wait only so long for the rest of a head."""
        super().data_received(data)
        if self.conn.their_state is IDLE:
            self._wait_for_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class LocalProtocol(H11Protocol):
    """HTTP/1.1 for this machine, whose users are not to take the hospitals' descriptors."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hang up where there are too many connections already."""
        super().connection_made(transport)
        if _are_too_many(self):
            transport.abort()


def _are_too_many(protocol: H11Protocol) -> bool:
    most = protocol.config.limit_concurrency
    return most is not None and len(protocol.connections) >= most  # there uvicorn serves nobody


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class PublicListener(Listener):
    """Accepts by itself: uvicorn neither counts unfinished handshakes nor ends them in time.

    Parameters
    ----------
    config : uvicorn.Config
        As uvicorn's.
    unfinished : int
        Most handshakes at a time.
    """

    def __init__(self, config: uvicorn.Config, unfinished: int):
        super().__init__(config)
        self._unfinished = unfinished
        self._doors: list[Door] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        self.servers = []
        context = self.config.ssl
        assert context is not None  # noqa: S101  (`public_listener` gives one)
        self._doors = [Door(each, context, self._meet, self._unfinished) for each in sockets or ()]
        for door in self._doors:
            door.open()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more; then as uvicorn does it."""
        for door in self._doors:
            await door.close()
        await super().shutdown(sockets)

    def _meet(self) -> HospitalProtocol:
        return HospitalProtocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def public_listener(app: ASGIApp, context: ssl.SSLContext) -> PublicListener:
    """Return the listener for hospitals, within its part of the descriptors."""
    most = connections()
    config = _config(
        app,
        lifespan="off",
        ssl_context_factory=lambda _config, _default: context,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        limit_concurrency=most.nodes,
    )
    return PublicListener(config, most.unfinished)


def loopback_listener(app: ASGIApp) -> Listener:
    """Return the listener for this machine; it owns the life of the application."""
    most = connections().local - LOCAL_BACKLOG
    return Listener(
        _config(
            app, lifespan="on", http=LocalProtocol, backlog=LOCAL_BACKLOG, limit_concurrency=most
        )
    )


def _config(app: ASGIApp, **settings: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        **settings,
    )


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises
    ------
    ServerError
        V002 if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServerError(
            Code.SERVER_START,
            f"The server cannot listen on {host} port {port} ({error.strerror}).",
            "Stop what uses this port, or choose another in the server's settings.",
        ) from None
    # Head and body of an answer are two writes; asyncio leaves Nagle's algorithm on here, and the
    # second would wait 40 ms for the first to be acknowledged. Connections inherit this (tcp(7)).
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
