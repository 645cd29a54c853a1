"""A stopwatch that is hung on from outside: what is measured knows nothing of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Milliseconds by part, and of processor time; a part inside another interrupts it."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = defaultdict(float)
        self._busy: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = self._busy_since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside as that of `name`."""
        self._stop()
        self._running.append(name)
        try:
            yield
        finally:
            self._stop()
            self._running.pop()

    def hang_on(self, part: str, owner: object, *methods: str) -> None:
        """Count every call of these methods of one object as `part`."""
        for method in methods:
            vars(owner)[method] = self._timed(part, getattr(owner, method))

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the milliseconds by part since the last time, and those of the processor."""
        taken = dict(self._spent), dict(self._busy)
        self._spent, self._busy = defaultdict(float), defaultdict(float)
        return taken

    def _timed(self, part: str, work: Any) -> Any:
        def timed(*args: Any, **more: Any) -> Any:
            with self.part(part):
                return work(*args, **more)

        return timed

    def _stop(self) -> None:
        now, busy = time.perf_counter(), time.process_time()
        if self._running:
            self._spent[self._running[-1]] += 1e3 * (now - self._since)
            self._busy[self._running[-1]] += 1e3 * (busy - self._busy_since)
        self._since, self._busy_since = now, busy
