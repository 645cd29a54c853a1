"""A menu of settings: each is trained from the public start, and one of the models is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from polyclinic_common.models.score_head import Vector
from polyclinic_server.rounds.state import State

Choose = Callable[[State], int]


@dataclass(frozen=True)
class Menu:
    """Settings that are trained one after the other.

    Attributes
    ----------
    settings, rounds : int
        How many, and rounds of each.
    start : array of shape (d,)
        The public starting point of each.
    choose : callable
        Gives the number of the one that is kept, from 0, once all are trained.
    """

    settings: int
    rounds: int
    start: Vector
    choose: Choose

    def turned(self, state: State) -> State:
        """Return the state with the next setting begun, if one has just ended.

        After the last one the model is the chosen candidate. Turning twice changes nothing, so
        that a run may be cut off and go on anywhere.
        """
        if state.round_number == self.rounds * (len(state.candidates) + 1):
            state = replace(
                state,
                weights=self.start,
                velocity=np.zeros_like(self.start),
                average=self.start,
                candidates=(*state.candidates, state.average),
            )
        if len(state.candidates) < self.settings:
            return state
        chosen = self.choose(state)
        model = state.candidates[chosen]
        return replace(state, weights=model, average=model, chosen=chosen)
