"""What a hospital computes for every kind of sum: an entry a kind, from patients to integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from polyclinic_client.compute.calibration_sums import SummedCalibration
from polyclinic_client.compute.integers import IntegerSums, NoisyIntegers
from polyclinic_client.compute.local_releases import Mechanism, SumRelease
from polyclinic_client.compute.metric_sums import SummedMetrics
from polyclinic_client.compute.patients import Patients
from polyclinic_client.compute.regression_sums import SummedStatistics
from polyclinic_client.compute.training import Gradients, local_mechanism
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT, METRICS, STATISTICS, UPDATE
from polyclinic_common.releases.schedule import Schedule


@dataclass(frozen=True)
class AtHand:
    """What a hospital computes with.

    Attributes
    ----------
    encoding : Encoding
        Of the study.
    gradients : Gradients
        Gives the gradients of its network.
    trained, held_out : Cohort
        Its patients that are trained on; and the others, as metrics and the vote see them
        (:func:`polyclinic_common.evaluation.observed.held_out_cohort`).
    """

    encoding: Encoding
    gradients: Gradients
    trained: Cohort
    held_out: Cohort


Computed = tuple[IntegerSums, Patients]
"""What gives integer sums, and the patients they are sums over."""


def _gradients(at: AtHand, plan: SumPlan) -> Computed:
    return at.gradients.integer_sums(plan), at.gradients.patients(at.trained)


def _statistics(at: AtHand, plan: SumPlan) -> Computed:
    return SummedStatistics(plan.clip, plan.grid), at.gradients.patients(at.trained)


def _calibration(at: AtHand, plan: SumPlan) -> Computed:
    return SummedCalibration(at.encoding, plan.clip, plan.grid), Patients(at.trained)


def _metrics(at: AtHand, plan: SumPlan) -> Computed:
    return SummedMetrics.of(at.encoding, plan.clip, plan.grid), Patients(at.held_out)


COMPUTING: Mapping[str, Callable[[AtHand, SumPlan], Computed]] = {
    STATISTICS: _statistics,
    GRADIENT: _gradients,
    UPDATE: _gradients,
    CALIBRATION: _calibration,
    METRICS: _metrics,
}


def noisy_sum(kind: str, at: AtHand, plan: SumPlan, noise: NoiseSource) -> NoisyIntegers:
    """Return what draws the noisy sums of a kind."""
    sums, patients = COMPUTING[kind](at, plan)
    return NoisyIntegers(sums, patients, noise, plan.variance)


def secure_sums(schedule: Schedule, at: AtHand, noise: NoiseSource) -> dict[str, NoisyIntegers]:
    """Return what draws every kind of sum of mode secure-sum."""
    plans = schedule.secure_sums
    return {kind: noisy_sum(kind, at, plan, noise) for kind, plan in plans.items()}


def local_mechanisms(
    schedule: Schedule, at: AtHand, declared: int, noise: NoiseSource
) -> dict[str, Mechanism]:
    """Return what draws every kind of release of mode local, but for the vote.

    Parameters
    ----------
    declared : int
        Declared patients of this hospital that count as trained on.
    """
    study, cohort = schedule.study, at.trained
    found: dict[str, Mechanism] = {
        UPDATE: local_mechanism(study, at.gradients, cohort, declared, noise)
    }
    for each in schedule.releases:
        if each.plan is not None and each.name != UPDATE:
            found[each.name] = SumRelease(noisy_sum(each.name, at, each.plan, noise), each.plan)
    return found
