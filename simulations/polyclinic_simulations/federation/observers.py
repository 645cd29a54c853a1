"""What a simulation is told of every round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from polyclinic_common.models.score_head import Vector
from polyclinic_server.rounds.observers import Round


@dataclass(frozen=True)
class Progress:
    """Calls back with the number of the round."""

    advance: Callable[[int], None]

    def after_round(self, finished: Round) -> None:
        """Report the round's number."""
        self.advance(finished.number)


@dataclass
class RoundHistory:
    """Keeps the averaged model of every `every`-th round, for learning curves."""

    every: int = 1
    rounds: list[int] = field(default_factory=list)
    models: list[Vector] = field(default_factory=list)

    def after_round(self, finished: Round) -> None:
        """Keep the model."""
        if finished.number % self.every == 0:
            self.rounds.append(finished.number)
            self.models.append(finished.state.average)

    def of_setting(self, index: int, rounds: int) -> RoundHistory:
        """Return what was kept of one setting of a menu, its rounds counted from 1."""
        first = index * rounds
        kept = [
            (number - first, model)
            for number, model in zip(self.rounds, self.models, strict=True)
            if first < number <= first + rounds
        ]
        return RoundHistory(
            self.every, [number for number, _ in kept], [model for _, model in kept]
        )


@dataclass
class SiteModels:
    """Keeps every site's model of the last round it answered: personal models, where there are."""

    broadcast: Vector
    models: dict[str, Vector] = field(default_factory=dict)

    def after_round(self, finished: Round) -> None:
        """Keep the model that each site reached from the broadcast one."""
        for site, change in finished.updates.items():
            self.models[site] = self.broadcast + change
        self.broadcast = finished.state.weights
