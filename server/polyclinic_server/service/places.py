"""How many calls are answered at a time: of one hospital, and of all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from polyclinic_common.errors import Code, ConsortiumError


class Places:
    """So many places for calls under way; each keeps a thread of the server.

    Parameters
    ----------
    most, of_a_site : int
        Calls of all hospitals together, and of one.
    """

    def __init__(self, most: int, of_a_site: int):
        self._most, self._of_a_site = most, of_a_site
        self._taken: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def taken(self, site: str) -> Iterator[None]:
        """Count a hospital's call while it lasts.

        Raises
        ------
        ConsortiumError
            C009 if there is no place.
        """
        with self._lock:
            if self._taken[site] >= self._of_a_site or self._taken.total() >= self._most:
                raise ConsortiumError(
                    Code.TOO_MANY_TRIES,
                    "Too many calls of this kind are under way already.",
                    "Wait a minute and try again.",
                )
            self._taken[site] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[site] -= 1
