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

from polyclinic_common import pki
from polyclinic_common.errors import Code, ServerError

HEAD_S = 10.0
LARGEST_HEAD = 16 * 1024
KEEP_ALIVE_S = 60
MOST_CONNECTIONS = 500
MOST_OF_A_SITE = 8  # connections with one certificate: a node uses two or three
GRACE_S = 3


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """Return what the public listener speaks TLS with.

    Raises
    ------
    ServerError
        V002 if a file cannot be used.
    """
    try:
        return pki.server_context(certificate, key, authority)
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
        """Read the certificate; hang up where its owner has too many connections already."""
        super().connection_made(transport)
        self._shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(self._shown)
        self.app_state = self.app_state | {"certificate": certificate}
        self._wait_for_head()
        same = [c for c in self.connections if getattr(c, "_shown", b"") == self._shown]
        if len(same) > MOST_OF_A_SITE:
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


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def public_listener(app: ASGIApp, context: ssl.SSLContext) -> Listener:
    """Return the listener for hospitals."""
    return _listener(
        app,
        http=HospitalProtocol,
        lifespan="off",
        ssl_context_factory=lambda _config, _default: context,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        limit_concurrency=MOST_CONNECTIONS,
    )


def loopback_listener(app: ASGIApp) -> Listener:
    """Return the listener for this machine; it owns the life of the application."""
    return _listener(app, lifespan="on")


def _listener(app: ASGIApp, **settings: Any) -> Listener:
    config = uvicorn.Config(
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
    return Listener(config)


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises
    ------
    ServerError
        V002 if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
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
