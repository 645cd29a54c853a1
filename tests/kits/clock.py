"""Clocks that show what a test sets them to."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np


@dataclass
class SetClock:
    """A clock for ledgers and journals, in milliseconds since 1970 (UTC)."""

    time: int

    def __call__(self) -> int:
        return self.time


@dataclass
class AheadClock:
    """A clock for a server, in seconds since 1970 (UTC): so far ahead of the machine's."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def noon(day: str) -> int:
    """Return noon of a day in milliseconds since 1970 (UTC)."""
    return int(np.datetime64(f"{day}T12:00").astype("datetime64[ms]").astype(np.int64))
