"""How simulated sites compute: in closed form or through Opacus, with or without privacy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyclinic_client.compute.integers import IntegerSums
from polyclinic_client.compute.patients import BLOCK, GradientEngine, Patients
from polyclinic_client.compute.training import Gradients, OpacusGradients
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Network
from polyclinic_common.privacy.noise import NoiseSource, SystemNoise
from polyclinic_common.privacy.sum_plan import SumPath, SumPlan
from polyclinic_common.study import Study
from polyclinic_simulations.compute.fast_gradients import ClosedForm, RoundedProducts
from polyclinic_simulations.compute.plain import PlainMechanism, Seed

if TYPE_CHECKING:
    from polyclinic_simulations.compute.unclipped import Unclipped

NoiseFactory = Callable[[bytes], NoiseSource]


@dataclass(frozen=True)
class FastGradients:
    """Clipped sums in closed form; equal to Opacus' up to rounding."""

    study: Study
    encoding: Encoding

    @property
    def path(self) -> SumPath:
        """Sums are matrix products, rounded once."""
        return "products"

    def integer_sums(self, plan: SumPlan) -> IntegerSums:
        """Return what gives sums on the plan's grid."""
        return RoundedProducts(self.clipped(), plan.grid)

    def clipped(self) -> GradientEngine:
        """Return what gives clipped sums in float64."""
        return ClosedForm(
            build_network(self.study, self.encoding), self.study.loss, self.study.clip
        )

    def patients(self, cohort: Cohort, batch: int | None = None) -> Patients:  # noqa: ARG002
        """Return a cohort as one block."""
        return Patients(cohort, block=None)


@dataclass(frozen=True)
class Trainer:
    """How sites compute, and where their noise comes from (given the site's secret)."""

    gradients: str = "fast"
    noise: NoiseFactory = SystemNoise

    def private(self, study: Study, encoding: Encoding) -> Gradients:
        """Return what gives clipped gradients."""
        kind = FastGradients if self.gradients == "fast" else OpacusGradients
        return kind(study, encoding)

    def plain(
        self, study: Study, encoding: Encoding, cohort: Cohort, declared: int, seed: Seed
    ) -> PlainMechanism:
        """Return what a site answers in mode none."""
        network, fast = build_network(study, encoding), self.gradients == "fast"
        engine = ClosedForm(network, study.loss, None) if fast else unclipped(study, network)
        patients = Patients(cohort, None if fast else BLOCK)
        return PlainMechanism.make(encoding, engine, patients, declared, seed)


def unclipped(study: Study, network: Network) -> Unclipped:
    """Return the engine of plain gradients, which needs torch: a fast run goes without."""
    from polyclinic_common.models.losses import LOSSES  # noqa: PLC0415  (torch, seconds)
    from polyclinic_simulations.compute.unclipped import Unclipped  # noqa: PLC0415  (torch, seconds)

    return Unclipped(network, LOSSES[study.loss])
