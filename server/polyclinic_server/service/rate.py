"""How often strangers may try."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from urllib.parse import unquote

from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_server.addresses import caller_of, network_of

MOST_REMEMBERED = 10_000  # the oldest are forgotten: nobody is refused for what others did


class RateLimit:
    """So many tries in so many seconds, of one caller, of one network and with one invitation.

    A join that succeeds does not count, so that hospitals behind one address do not use up each
    other's tries. There is no limit over all callers, which one of them could use up.

    Parameters
    ----------
    caller : int
        Tries of one address in the window: more than are answered at a time, since a join counts
        while it is under way.
    network : int
        Tries of one /24, or of the /48 of an IPv6 address.
    guesses : int
        Wrong secrets for one invitation, whoever sent them.
    seconds : float
        Length of the window.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(
        self,
        caller: int = 20,
        network: int = 100,
        guesses: int = 10,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._caller, self._network, self._most_guesses = caller, network, guesses
        self._seconds, self._clock = seconds, clock
        self._tries: deque[tuple[float, str, str]] = deque(maxlen=MOST_REMEMBERED)
        self._guesses: deque[tuple[float, bytes]] = deque(maxlen=MOST_REMEMBERED)
        self._lock = Lock()

    def count(self, peer: str) -> None:
        """Count a try.

        Parameters
        ----------
        peer : str
            As gRPC names the other end, for example ``ipv4:192.0.2.7:50412``.

        Raises
        ------
        ConsortiumError
            C009 if there were too many; those that are refused do not count.
        """
        caller, network = _who(peer)
        with self._lock:
            self._forget()
            own = sum(1 for _, other, _ in self._tries if other == caller)
            near = sum(1 for _, _, other in self._tries if other == network)
            if own >= self._caller or near >= self._network:
                raise self._too_many()
            self._tries.append((self._clock(), caller, network))

    def forgive(self, peer: str) -> None:
        """Take back the last try of a caller: it was a join that succeeded."""
        caller, _ = _who(peer)
        with self._lock:
            for index in range(len(self._tries) - 1, -1, -1):
                if self._tries[index][1] == caller:
                    del self._tries[index]
                    return

    def check_guesses(self, invitation: bytes) -> None:
        """Refuse to look at any more secrets for an invitation, the right one too.

        Raises
        ------
        ConsortiumError
            C009 if there were too many wrong ones.
        """
        named = _named(invitation)
        with self._lock:
            self._forget()
            if sum(1 for _, other in self._guesses if other == named) >= self._most_guesses:
                raise self._too_many()

    def guessed(self, invitation: bytes) -> None:
        """Count a wrong secret for an invitation."""
        with self._lock:
            self._guesses.append((self._clock(), _named(invitation)))

    def _forget(self) -> None:
        start = self._clock() - self._seconds
        while self._tries and self._tries[0][0] <= start:
            self._tries.popleft()
        while self._guesses and self._guesses[0][0] <= start:
            self._guesses.popleft()

    def _too_many(self) -> ConsortiumError:
        return ConsortiumError(
            Code.TOO_MANY_TRIES,
            "There were too many tries to join.",
            f"Wait {self._seconds:.0f} seconds and try again.",
        )


def _named(invitation: bytes) -> bytes:
    """Return what is remembered of what a stranger calls an invitation, which can be long."""
    return hashlib.sha256(invitation).digest()


def _who(peer: str) -> tuple[str, str]:
    """Return caller and network of what gRPC names the other end."""
    host = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
    return caller_of(host), network_of(host)
