"""Where strangers knock: accepts connections, and lets through who finishes a TLS handshake.

Who does not speak takes a descriptor and nothing else, and so could take them all. Beyond a number
of unfinished handshakes, of one address and of all, the one that has hung longest gives way: a
hospital's takes a few round trips, so it is never that one unless strangers come faster than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from polyclinic_server.addresses import caller_of

HANDSHAKE_S = 5.0
CLOSING_S = 5.0
MOST_OF_AN_ADDRESS = 32  # unfinished: several hospitals may share one address
PAUSE_S = 0.05
log = logging.getLogger(__name__)


class Door:
    """The accepting side of a listener.

    Parameters
    ----------
    listening : socket
        Bound and listening.
    context : SSLContext
        What is spoken.
    protocol : callable
        Makes what takes over once a handshake is finished.
    most : int
        Unfinished handshakes, of all addresses together.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        most: int,
    ):
        self._listening = listening
        self._context = context
        self._protocol = protocol
        self._most = most
        self._unfinished: dict[asyncio.Task[None], str] = {}  # the oldest first
        self._accepting: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to accept."""
        self._listening.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Accept no more, and hang up on who has not finished."""
        tasks = [*self._unfinished, *([self._accepting] if self._accepting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop, short = asyncio.get_running_loop(), False
        while True:
            try:
                connection, address = await loop.sock_accept(self._listening)
            except OSError as error:  # the caller is gone again, or something else took all files
                if not short:
                    log.warning("connections cannot be accepted (%s)", error.strerror)
                short = True
                self._hang_up()
                await asyncio.sleep(PAUSE_S)
                continue
            short = False
            task = asyncio.create_task(self._shake_hands(connection))
            self._unfinished[task] = caller_of(str(address[0]))
            task.add_done_callback(lambda done: self._unfinished.pop(done, None))
            self._make_room(self._unfinished[task])
            await asyncio.sleep(0)  # for accepting may go on for ever without waiting

    async def _shake_hands(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # SSLError is one, and so is being too slow
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSING_S,
            )

    def _make_room(self, caller: str) -> None:
        """Hang up on one handshake where there are too many."""
        counted = Counter(self._unfinished.values())
        if counted[caller] > MOST_OF_AN_ADDRESS:
            self._hang_up(caller)
        elif len(self._unfinished) > self._most:
            self._hang_up(counted.most_common(1)[0][0])

    def _hang_up(self, caller: str | None = None) -> None:
        """Hang up on the oldest unfinished handshake, of one caller or of all."""
        for task, other in self._unfinished.items():
            if caller in (None, other):
                del self._unfinished[task]
                task.cancel()
                return
