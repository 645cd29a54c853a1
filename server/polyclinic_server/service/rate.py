"""How often strangers may try."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from urllib.parse import unquote

from polyclinic_common.errors import Code, ConsortiumError


class RateLimit:
    """So many tries in so many seconds, for one address and for all together.

    Parameters
    ----------
    each, together : int
        Tries in the window, of one address and of all.
    seconds : float
        Length of the window.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(
        self,
        each: int = 10,
        together: int = 200,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._each, self._together, self._seconds = each, together, seconds
        self._clock = clock
        self._tries: deque[tuple[float, str]] = deque()
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
        address = unquote(peer).rpartition(":")[0]
        with self._lock:
            start = self._clock() - self._seconds
            while self._tries and self._tries[0][0] <= start:
                self._tries.popleft()
            own = sum(1 for _, other in self._tries if other == address)
            if own >= self._each or len(self._tries) >= self._together:
                raise ConsortiumError(
                    Code.TOO_MANY_TRIES,
                    "There were too many tries to join.",
                    f"Wait {self._seconds:.0f} seconds and try again.",
                )
            self._tries.append((self._clock(), address))
