"""How much noise a site adds in a run, and what that costs: fixed before the run starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from polyclinic_common.models.head import length_of
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.charges import Charge, SampledSteps
from polyclinic_common.privacy.sum_plan import SumPath, SumPlan, plan_sum
from polyclinic_common.releases.shares import (
    most_patients,
    part_of,
    training_share,
)
from polyclinic_common.study.manifest import Study

CHANGE_EXPONENT = -20  # changes of a model are released in units of 2^-20
NODE_PATH: SumPath = "rows"  # how a node makes its integer sums, which decides the charge


@dataclass(frozen=True)
class NoisePlan:
    """A run of one site.

    Attributes
    ----------
    multiplier : float
        Standard deviation of the noise of one step, in clips; 0 without privacy.
    sampling_rate : float
        Probability of a patient to take part in a step; 1 in the full schedule.
    steps : int
        Steps of a round.
    rounds : int
        Rounds of the run.
    """

    multiplier: float
    sampling_rate: float
    steps: int
    rounds: int

    def spent_epsilon(self, delta: float) -> float:
        """Return the epsilon that the whole run costs."""
        releases = self.steps * self.rounds
        if self.sampling_rate == 1.0:
            return gdp.spent_epsilon(self.multiplier, releases, delta)
        return rdp.spent_epsilon(self.multiplier, self.sampling_rate, releases, delta)

    @property
    def accountant(self) -> str:
        """Name of the accounting that holds for this plan."""
        if self.multiplier == 0.0:
            return "none"
        return gdp.ACCOUNTANT if self.sampling_rate == 1.0 else rdp.ACCOUNTANT


def noise_plan(study: Study, declared: int, epsilon: float | None) -> NoisePlan:
    """Return the plan of a site with `declared` patients; no epsilon gives no noise.

    The sampling rate is batch / declared patients: the true number stays inside the site. Metrics,
    calibration and the vote take their part of `epsilon` first.
    """
    training, delta = study.training, study.privacy.delta
    rate, steps = 1.0, 1
    if training.schedule == "sampled":
        rate = min(1.0, training.batch / declared)
        steps = math.ceil(training.epochs / rate)
    rounds = study.training_rounds
    if epsilon is None:
        return NoisePlan(0.0, rate, steps, rounds)
    releases, share = steps * rounds, training_share(study)
    if rate == 1.0:
        multiplier = gdp.noise_multiplier(part_of(epsilon, delta, share), delta, releases)
    else:
        beside = (1.0 - share) * gdp.mu_of(epsilon, delta) ** 2
        multiplier = rdp.noise_multiplier(epsilon, delta, rate, releases, beside)
    return NoisePlan(multiplier, rate, steps, rounds)


def local_sum_plan(study: Study, path: SumPath, declared: int, plan: NoisePlan) -> SumPlan:
    """Return grid and noise of a site whose full-cohort sums are private on their own."""
    return plan_sum(
        part_of(study.privacy.epsilon, study.privacy.delta, training_share(study)),
        study.privacy.delta,
        plan.steps * plan.rounds,
        length_of(study),
        study.clip,
        1,
        path=path,
        most_patients=most_patients(declared),
    )


def local_charge(study: Study, declared: int, path: SumPath) -> Charge:
    """Return what one update of mode local costs."""
    plan = noise_plan(study, declared, study.privacy.epsilon)
    if plan.sampling_rate < 1.0:
        return SampledSteps(rate=plan.sampling_rate, multiplier=plan.multiplier, steps=plan.steps)
    sums = local_sum_plan(study, path, declared, plan)
    return sums.headline if study.strategy == "descent" else sums.headline.repeated(plan.steps)
