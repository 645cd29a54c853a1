"""What a site trains with: gradients, noise and plan put together, from the study alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from polyclinic_client.compute.integers import GridSums, IntegerSums, NoisyIntegers, SummedRows
from polyclinic_client.compute.local_releases import (
    Mechanism,
    ModelRelease,
    SampledCohort,
    SumRelease,
    WholeCohort,
    make_steps,
)
from polyclinic_client.compute.patients import BLOCK, GradientEngine, Patients
from polyclinic_client.compute.sampling import Sampler, SystemSampler
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.head import build_network, length_of
from polyclinic_common.models.score_head import weight_count
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.privacy.sum_plan import SumPath, SumPlan
from polyclinic_common.releases.plans import (
    NODE_PATH,
    local_charge,
    local_sum_plan,
    noise_plan,
)
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    from polyclinic_client.compute.gradients import OpacusRows

NUMBERS_AT_ONCE = 5_000_000
FINEST_BITS = 28  # sums of 2^24 patients are exact in float64


class Gradients(Protocol):
    """Gives the gradients of a study's network.

    Attributes
    ----------
    path : {"rows", "products"}
        How its integer sums are made, which decides what a sum is charged.
    """

    @property
    def path(self) -> SumPath:
        """How integer sums are made."""
        ...

    def integer_sums(self, plan: SumPlan) -> IntegerSums:
        """Return what gives sums on the plan's grid."""
        ...

    def clipped(self) -> GradientEngine:
        """Return what gives clipped sums in the unit of the clip, for sampled steps."""
        ...

    def patients(self, cohort: Cohort, batch: int | None = None) -> Patients:
        """Return a cohort cut into blocks; `batch` is the expected size of a sample."""
        ...


class OpacusGradients:
    """Gradients of single patients through Opacus, each clipped and rounded: what a node uses.

    Raises
    ------
    PrivacyError
        P006 if this machine computes rows that depend on their place; see `check_rows`.
    """

    def __init__(self, study: Study, encoding: Encoding):
        self._study = study
        self._network = build_network(study, encoding)

    @property
    def path(self) -> SumPath:
        """How integer sums are made."""
        return NODE_PATH

    def integer_sums(self, plan: SumPlan) -> IntegerSums:
        """Return what gives sums on the plan's grid."""
        return SummedRows(self._rows(), plan.clip, plan.grid)

    def clipped(self) -> GridSums:
        """Return what gives clipped sums in the unit of the clip, for sampled steps."""
        clip = self._study.clip
        grid = sampled_grid(clip, weight_count(self._network))
        return GridSums(SummedRows(self._rows(), clip, grid), grid)

    def _rows(self) -> OpacusRows:
        from polyclinic_client.compute.gradients import OpacusRows  # noqa: PLC0415  (torch, seconds)
        from polyclinic_client.compute.row_check import check_rows  # noqa: PLC0415  (torch, seconds)
        from polyclinic_client.compute.row_network import RowNetwork  # noqa: PLC0415  (torch, seconds)

        check_rows()
        return OpacusRows(RowNetwork(self._network), self._study.loss)

    def patients(self, cohort: Cohort, batch: int | None = None) -> Patients:
        """Return a cohort in blocks; for samples, blocks that nearly always hold a whole one.

        Wide models take smaller blocks: a block's gradients are held at once.
        """
        size = BLOCK if batch is None else math.ceil(batch + 2.0 * math.sqrt(batch))
        fits = max(1, NUMBERS_AT_ONCE // weight_count(self._network))
        return Patients(cohort, min(size, fits))


def sampled_grid(clip: float, length: int) -> float:
    """Return the finest grid on which a row's integer norm fits into 63 bits, at most 28 finer.

    With less than 2^bits units in a clip, `length` squares stay below 2^62.
    """
    bits = min(FINEST_BITS, (62 - length.bit_length()) // 2)
    return math.ldexp(1.0, math.frexp(clip)[1] - bits)


def local_mechanism(
    study: Study,
    gradients: Gradients,
    cohort: Cohort,
    declared: int,
    noise: NoiseSource,
    sampler: Sampler | None = None,
) -> Mechanism:
    """Return what a site of mode local releases a round.

    Parameters
    ----------
    declared : int
        Declared patients: the size that everybody knows.
    sampler : Sampler or None
        Chooses the patients of sampled steps; None takes the operating system's.
    """
    plan = noise_plan(study, declared, study.privacy.epsilon)
    step: WholeCohort | SampledCohort
    if plan.sampling_rate == 1.0:
        sums = local_sum_plan(study, gradients.path, declared, plan)
        source = NoisyIntegers(
            gradients.integer_sums(sums), gradients.patients(cohort), noise, sums.variance
        )
        if study.strategy == "descent":
            return SumRelease(source, sums)
        step = WholeCohort(source, sums.grid)
    else:
        step = SampledCohort(
            gradients.clipped(),
            gradients.patients(cohort, study.training.batch),
            sampler or SystemSampler(),
            plan.sampling_rate,
            noise,
            plan.multiplier * study.clip,
        )
    steps = make_steps(study, step, plan, declared)
    charge = local_charge(study, declared, gradients.path)
    return ModelRelease(steps, charge, study.clip, length_of(study))
