"""Who is told how a simulation gets on."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told how a simulation gets on."""

    def begin(self, cells: int, rounds: int) -> None:
        """Start: so many cells of so many rounds are left to run."""
        ...

    def working_on(self, what: str) -> None:
        """Name what is being done."""
        ...

    def round_done(self) -> None:
        """Count a round of a cell."""
        ...


class Silent:
    """Watches without a word."""

    def begin(self, cells: int, rounds: int) -> None:
        """Do nothing."""

    def working_on(self, what: str) -> None:
        """Do nothing."""

    def round_done(self) -> None:
        """Do nothing."""
