"""Where a run stands between two rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from polyclinic_common.models.score_head import Matrix, Vector
from polyclinic_common.releases.kinds import METRICS


@dataclass(frozen=True)
class KeptSum:
    """What hospitals released about the model after a round.

    Attributes
    ----------
    round_number : int
        The round.
    total : array of shape (length,)
        The noisy sum, in units of the clip.
    sites : tuple of str
        The hospitals in it.
    profile : array of shape (K,) or None
        Survival: what the model that was judged adds to a patient's risk in every interval; None
        in states of earlier versions.
    kind : str
        The kind of release.
    """

    round_number: int
    total: Vector
    sites: tuple[str, ...]
    profile: Vector | None = None
    kind: str = METRICS


@dataclass(frozen=True)
class Verdict:
    """What the votes say.

    Attributes
    ----------
    votes, in_favour : int
        Votes that came, and randomised yeses among them.
    estimated : float
        Unbiased estimate of the hospitals in favour; abstentions count one half.
    accepted : bool
        Whether enough votes came and the estimate reaches the quorum.
    """

    votes: int
    in_favour: int
    estimated: float
    accepted: bool


@dataclass(frozen=True)
class Calibrated:
    """What is known of shift and slope.

    Attributes
    ----------
    frozen : array of shape (d,)
        The model as it was trained.
    mean : array of shape (2,)
        Shift and slope that are applied to it.
    precision : array of shape (2, 2)
        How sure they are.
    """

    frozen: Vector
    mean: Vector
    precision: Matrix

    @property
    def level_and_slope(self) -> tuple[Vector, Matrix]:
        """What is applied to the model, and how sure it is, as a saved model keeps them."""
        return self.mean, self.precision


@dataclass(frozen=True)
class State:
    """Where a run stands after `round_number` rounds.

    `weights` and `average` have shape (d,); `velocity` is what the combiner remembers, `carried`
    what the secure sum does, `released` are the metric and other kept sums so far, `verdict` the
    hospitals' at the end, where they vote. With a menu, `candidates` are the models of the settings
    that were trained, and `chosen` is the number of the one that was kept. `calibrated` is what is
    known of level and slope, once calibration has begun; then `average` is the model they are
    applied to.
    """

    round_number: int
    weights: Vector
    velocity: Vector
    average: Vector
    carried: bytes = b""
    released: tuple[KeptSum, ...] = ()
    verdict: Verdict | None = None
    candidates: tuple[Vector, ...] = ()
    chosen: int | None = None
    calibrated: Calibrated | None = None

    def kept(self, kind: str) -> tuple[KeptSum, ...]:
        """Return the sums of a kind so far."""
        return tuple(each for each in self.released if each.kind == kind)

    @staticmethod
    def start(weights: Vector) -> State:
        """Return the state before the first round."""
        return State(0, weights, np.zeros_like(weights), weights)

    def advance(self, weights: Vector, rounds: int, average_from: float) -> State:
        """Return the state one round later; `average` is the mean of the late iterates.

        Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992). `rounds`
        are those of one setting: with a menu the next one averages anew.
        """
        number = self.round_number + 1
        averaged = self.round_number % rounds + 1 - min(int(average_from * rounds), rounds - 1)
        if averaged <= 1:
            return replace(self, round_number=number, weights=weights, average=weights)
        average = self.average + (weights - self.average) / averaged
        return replace(self, round_number=number, weights=weights, average=average)
