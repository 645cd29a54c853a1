"""What hospitals' nodes can reach: Flower's Fleet API, each node for itself, within limits.

Everything else that the SuperLink can do is not found here. Whoever gets this far has shown a
certificate of this consortium (:mod:`polyclinic_server.superlink.listeners`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MayConnect = Callable[[x509.Certificate], bool]

ACTIVATE, PULL, PUSH = (
    f"/v1/fleet/{name}" for name in ("activate-node", "pull-messages", "push-messages")
)
PATHS = {
    ACTIVATE,
    PULL,
    PUSH,
    *(
        f"/v1/fleet/{name}"
        for name in (
            "deactivate-node",
            "send-node-heartbeat",
            "get-run",
            "push-object",
            "pull-object",
        )
    ),
}
LARGEST_BODY = 32 * 1024 * 1024
BODY_S = 20.0
HOLD_S = 20.0
NOT_FOUND, FORBIDDEN, TOO_LARGE, TOO_SLOW = 404, 403, 413, 408


class Hall(Protocol):
    """What the gate needs of the SuperLink."""

    @property
    def app(self) -> ASGIApp:
        """All its APIs."""
        ...

    def welcome(self, key: bytes) -> None:
        """Let the node with this public key (PEM) start."""
        ...

    def has_mail(self, key: bytes) -> bool:
        """Say whether there is a message for this node."""
        ...


class Bell:
    """Tells held requests that there may be messages for them."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody who waits."""
        self._rung.set()
        self._rung = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """The next ring."""
        return self._rung


class RefusedError(Exception):
    """A request is not let through; the status says why."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


class FleetGate:
    """Lets requests of nodes through to the SuperLink.

    A request for messages is held until there are some, so that nodes need not ask often.

    Parameters
    ----------
    hall : Hall
        The SuperLink.
    may_connect : callable
        Whether the owner of a certificate may connect now; asked at every request.
    speaks_for_itself : callable
        Whether what a node pushes is its own.
    bell : Bell
        Rings when there may be messages.
    key_header : bytes
        Name of the header in which Flower's nodes state their public key.
    """

    def __init__(
        self,
        hall: Hall,
        may_connect: MayConnect,
        speaks_for_itself: Callable[[bytes], bool],
        bell: Bell,
        key_header: bytes,
    ):
        self._hall = hall
        self._may_connect = may_connect
        self._speaks_for_itself = speaks_for_itself
        self._bell = bell
        self._key_header = key_header
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._admit(scope)
            body = await _read(receive)
            path = scope["path"]
            if path == PUSH and not self._speaks_for_itself(body):
                raise RefusedError(FORBIDDEN)
            if path == ACTIVATE:
                await asyncio.to_thread(self._hall.welcome, _pem(scope["state"]["certificate"]))
            if path == PULL and not await self._mail_came(scope["state"]["certificate"], receive):
                return
            await self._hall.app(scope, _once(body), send)
        except RefusedError as refused:
            await _say(send, refused.status)

    async def _admit(self, scope: Scope) -> None:
        """Refuse what is not exactly a call of the Fleet API by the owner of the certificate."""
        if scope["type"] != "http":
            raise RefusedError(NOT_FOUND)
        path = scope["path"]
        plain = scope["raw_path"] == path.encode() and not scope["query_string"]
        if path not in PATHS or not plain or scope["method"] != "POST":
            raise RefusedError(NOT_FOUND)
        certificate = scope["state"]["certificate"]
        keys = [value for name, value in scope["headers"] if name == self._key_header]
        if keys != [b64encode(_pem(certificate))]:
            raise RefusedError(FORBIDDEN)
        await self._check(certificate)

    async def _check(self, certificate: x509.Certificate) -> None:
        now = dt.datetime.now(dt.UTC)
        valid = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
        if not valid or not await asyncio.to_thread(self._may_connect, certificate):
            raise RefusedError(FORBIDDEN)

    async def _mail_came(self, certificate: x509.Certificate, receive: Receive) -> bool:
        """Wait until there is mail or it is time to answer; False if the node has hung up."""
        loop, key = asyncio.get_running_loop(), _pem(certificate)
        deadline = loop.time() + HOLD_S
        gone = asyncio.ensure_future(_gone(receive))
        try:
            while True:
                rung, left = self._bell.next, deadline - loop.time()
                if gone.done() or left <= 0 or self.closing or self._hall.has_mail(key):
                    return not gone.done()
                ring = asyncio.ensure_future(rung.wait())
                await asyncio.wait({gone, ring}, timeout=left, return_when="FIRST_COMPLETED")
                ring.cancel()
                await self._check(certificate)
        finally:
            gone.cancel()


async def _read(receive: Receive) -> bytes:
    """Return the body of a request, within size and time."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise RefusedError(TOO_SLOW)
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise RefusedError(TOO_LARGE)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise RefusedError(TOO_SLOW) from None


def _once(body: bytes) -> Receive:
    """Return what gives a body that was read already, and then waits for ever."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    return receive


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _say(send: Send, status: int) -> None:
    """Send an empty answer and hang up."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate's public key as Flower writes it."""
    key = certificate.public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class RingOnPush:
    """The loopback side: rings the bell when the coordinator has pushed something."""

    def __init__(self, app: ASGIApp, bell: Bell):
        self._app = app
        self._bell = bell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        await self._app(scope, receive, send)
        if scope["type"] == "http" and scope["path"].startswith("/v1/runtime/push-"):
            self._bell.ring()
