"""A watcher of a simulation."""

from __future__ import annotations

from polyclinic_simulations.sweep.watcher import Silent


class Recorder(Silent):
    def __init__(self) -> None:
        self.total = self.done = 0.0

    def begin(self, units: float) -> None:
        self.total = units

    def advance(self, units: float) -> None:
        self.done += units
