"""What a site computes in a round of mode local: integers on a public grid, noise included.

Two kinds: the noisy sum of gradients, or the change of a model after noisy steps at the site.
(Mode secure-sum: :mod:`polyclinic_client.run.sum_responder`, with the same noisy sums.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.compute.integers import Moment, NoisyIntegers
from polyclinic_client.compute.patients import GradientEngine, Patients
from polyclinic_client.compute.sampling import Sampler
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.releases.plans import CHANGE_EXPONENT, NoisePlan
from polyclinic_common.secure_sum.masks import Integers
from polyclinic_common.study.manifest import Study


class Mechanism(Protocol):
    """Turns a model into what may leave the site.

    Attributes
    ----------
    charge : Charge
        What one release costs.
    clip : float
        Bound on one patient, for the ledger's record.
    grid_exponent : int
        The release is in units of 2^grid_exponent.
    length : int
        Entries of the release.
    """

    @property
    def charge(self) -> Charge:
        """What one release costs."""
        ...

    @property
    def clip(self) -> float:
        """Bound on one patient."""
        ...

    @property
    def grid_exponent(self) -> int:
        """Exponent of the grid."""
        ...

    @property
    def length(self) -> int:
        """Entries of the release."""
        ...

    def draw(self, weights: Vector, own: Vector, moment: Moment) -> Integers:
        """Return the release for one round, shape (d,).

        Parameters
        ----------
        weights, own : array of shape (d,)
            The broadcast model, and the model this site starts from.
        moment : Moment
            The release.
        """
        ...


@dataclass(frozen=True)
class SumRelease:
    """Releases the noisy gradient sum at the broadcast model; the server descends."""

    source: NoisyIntegers
    plan: SumPlan

    @property
    def charge(self) -> Charge:
        """What one release costs."""
        return self.plan.headline

    @property
    def clip(self) -> float:
        """Bound on one patient's gradient."""
        return self.plan.clip

    @property
    def grid_exponent(self) -> int:
        """Exponent of the grid."""
        return self.plan.grid_exponent

    @property
    def length(self) -> int:
        """Entries of the sum."""
        return self.plan.length

    def draw(self, weights: Vector, own: Vector, moment: Moment) -> Integers:  # noqa: ARG002
        """Return the noisy sum."""
        return self.source.draw(weights, moment)


class Step(Protocol):
    """Gives the gradient sum of one step at a site."""

    def total(self, weights: Vector, moment: Moment) -> Vector:
        """Return the sum at `weights`, shape (d,)."""
        ...


@dataclass(frozen=True)
class WholeCohort:
    """A step on every patient, with exact noise on the grid."""

    source: NoisyIntegers
    grid: float

    def total(self, weights: Vector, moment: Moment) -> Vector:
        """Return the noisy sum."""
        return np.asarray(self.source.draw(weights, moment) * self.grid, dtype=np.float64)


@dataclass(frozen=True)
class SampledCohort:
    """A step on a Poisson sample, with Gaussian noise from the operating system's stream.

    Attributes
    ----------
    deviation : float
        Standard deviation of the noise: multiplier times C.
    """

    engine: GradientEngine
    patients: Patients
    sampler: Sampler
    rate: float
    noise: NoiseSource
    deviation: float

    def total(self, weights: Vector, moment: Moment) -> Vector:
        """Return the noisy sum over the patients of a sample."""
        when = moment.release.round_number, moment.step
        return self.of_rows(weights, self.sampler.rows(len(self.patients), self.rate, when))

    def of_rows(self, weights: Vector, rows: NDArray[np.int64]) -> Vector:
        """Return the noisy sum over these patients, shape (d,)."""
        total = self.engine.gradient_sum(weights, self.patients.blocks(rows))
        return total + self.noise.gaussian(total.size, self.deviation)


@dataclass(frozen=True)
class Steps:
    """Steps of one round at a site, and the pull towards the broadcast model.

    The pull stands outside the clipped gradient, where it costs no privacy. FedProx: Li et al.,
    Federated optimization in heterogeneous networks (2020), equation 2. Personal models (MR-MTL):
    Liu et al., On privacy and personalization in cross-silo federated learning (NeurIPS 2022),
    equation 1; steps start from the site's own model, itself a function of what the site released.

    Attributes
    ----------
    step : Step
        Gives the gradient sum of a step.
    count : int
        Steps of a round.
    divisor : float
        Public expected patients of a step.
    """

    step: Step
    count: int
    divisor: float
    learning_rate: float
    pull: float

    def change(self, weights: Vector, own: Vector, moment: Moment) -> Vector:
        """Return how far the steps lead from the broadcast `weights`, starting at `own`."""
        for number in range(self.count):
            total = self.step.total(own, replace(moment, step=number))
            gradient = total / self.divisor + self.pull * (own - weights)
            own = np.clip(own - self.learning_rate * gradient, -LARGEST_WEIGHT, LARGEST_WEIGHT)
        return own - weights


def make_steps(study: Study, step: Step, plan: NoisePlan, declared: int) -> Steps:
    """Return the steps that a study takes at a site with so many declared patients."""
    pulled = study.training.personalisation == "mr-mtl" or study.strategy == "fedprox"
    return Steps(
        step,
        plan.steps,
        divisor=plan.sampling_rate * declared,
        learning_rate=study.local_learning_rate,
        pull=study.training.pull if pulled else 0.0,
    )


@dataclass(frozen=True)
class ModelRelease:
    """Releases the change of the model after noisy steps, rounded to a grid."""

    steps: Steps
    charge: Charge
    clip: float
    length: int
    grid_exponent: int = CHANGE_EXPONENT

    def draw(self, weights: Vector, own: Vector, moment: Moment) -> Integers:
        """Return the change of the model."""
        change = self.steps.change(weights, own, moment)
        return np.rint(change / 2.0**self.grid_exponent).astype(np.int64)
