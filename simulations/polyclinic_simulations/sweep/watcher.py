"""Who is told how a simulation gets on."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told how a simulation gets on; one unit of work is one round of one federation."""

    def begin(self, units: float) -> None:
        """Start: so much work is left."""
        ...

    def advance(self, units: float) -> None:
        """Count finished work."""
        ...


class Silent:
    """Watches without a word."""

    def begin(self, units: float) -> None:
        """Do nothing."""

    def advance(self, units: float) -> None:
        """Do nothing."""
