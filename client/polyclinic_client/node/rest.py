"""Whether a node is answering a message, and since when it is not: so that rows wait for ticks.

A message is not answered while rows are sent, nor are rows sent while a message is answered: how
long one takes says nothing about the other. Answers and silences end on public ticks, so what
follows from their ends follows from ticks.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Rest:
    """The turns that a node's messages and its row keeper take.

    Parameters
    ----------
    clock : callable
        Tells seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._turn = threading.Lock()
        self._clock = clock
        self._since = clock()

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Answer a message inside the block; a node that is stopped in it rests no more."""
        with self._turn:
            self._since = math.inf
            try:
                yield
            except Exception:  # the network's, which has nothing to do with computing
                self._since = self._clock()
                raise
            self._since = self._clock()

    @contextmanager
    def used(self, least_s: float) -> Iterator[bool]:
        """Give whether the node has rested for so long; no message is answered inside the block."""
        with self._turn:
            yield self._clock() - self._since >= least_s
