"""What a site computes in a round, and what of it leaves.

Two kinds: the noisy sum of gradients, or the change of a model after noisy steps at the site.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.gradients import GradientEngine, Patients
from polyclinic_client.sampling import Sampler
from polyclinic_common.models.network import Vector
from polyclinic_common.privacy.noise import NoiseSource

GRID = 2.0**-20


@dataclass
class Memory:
    """What a site remembers of a run between rounds.

    Attributes
    ----------
    last_round : int
        The last round it answered.
    personal : array of shape (d,) or None
        Its own model, where the study personalises.
    """

    last_round: int = 0
    personal: Vector | None = None


class Mechanism(Protocol):
    """Turns a model into what may leave the site."""

    def release(self, weights: Vector, memory: Memory) -> Vector:
        """Return the release for one round, shape (d,), float64."""
        ...


@dataclass(frozen=True)
class NoisySums:
    """Noisy sums of clipped gradients of one cohort: the only place where noise is added.

    Attributes
    ----------
    engine : GradientEngine
        Gives sums of sensitivity C.
    patients : Patients
        The cohort.
    noise : NoiseSource
        Where noise comes from.
    deviation : float
        Standard deviation of the noise on every coordinate: multiplier times C. Zero only in mode
        `none`, which no node offers.
    """

    engine: GradientEngine
    patients: Patients
    noise: NoiseSource
    deviation: float

    def of_all(self, weights: Vector) -> Vector:
        """Return the noisy sum over the whole cohort, shape (d,)."""
        return self._noisy(self.engine.gradient_sum(weights, self.patients.blocks()))

    def of_rows(self, weights: Vector, rows: NDArray[np.int64]) -> Vector:
        """Return the noisy sum over the patients of a sample, shape (d,)."""
        return self._noisy(self.engine.gradient_sum(weights, self.patients.blocks(rows)))

    def _noisy(self, total: Vector) -> Vector:
        if self.deviation == 0.0:
            return total
        return total + self.noise.gaussian(total.size, self.deviation)


@dataclass(frozen=True)
class SumRelease:
    """Releases the noisy gradient sum at the broadcast model; the server descends."""

    sums: NoisySums

    def release(self, weights: Vector, memory: Memory) -> Vector:  # noqa: ARG002
        """Return the noisy sum."""
        return self.sums.of_all(weights)


@dataclass(frozen=True)
class ModelRelease:
    """Takes noisy steps at the site and releases the change of the model, rounded to a grid.

    The pull towards the broadcast model stands outside the clipped gradient, where it costs no
    privacy. FedProx: Li et al., Federated optimization in heterogeneous networks (2020), equation
    2. Personal models (MR-MTL): Liu et al., On privacy and personalization in cross-silo federated
    learning (NeurIPS 2022), equation 1; steps start from the site's own model, which is itself a
    function of what the site has released.

    Attributes
    ----------
    sampler : Sampler or None
        None takes the whole cohort in every step.
    rate : float
        Sampling probability.
    divisor : float
        Public expected patients of a step.
    """

    sums: NoisySums
    sampler: Sampler | None
    rate: float
    steps: int
    divisor: float
    learning_rate: float
    pull: float
    personal: bool

    def release(self, weights: Vector, memory: Memory) -> Vector:
        """Return the change of the model."""
        own = weights if memory.personal is None else memory.personal
        for step in range(self.steps):
            total = self._noisy_sum(own, (memory.last_round, step))
            gradient = total / self.divisor + self.pull * (own - weights)
            own = own - self.learning_rate * gradient
        change = np.round((own - weights) / GRID) * GRID
        if self.personal:
            memory.personal = weights + change
        return change

    def _noisy_sum(self, weights: Vector, moment: tuple[int, int]) -> Vector:
        if self.sampler is None:
            return self.sums.of_all(weights)
        rows = self.sampler.rows(len(self.sums.patients), self.rate, moment)
        return self.sums.of_rows(weights, rows)
