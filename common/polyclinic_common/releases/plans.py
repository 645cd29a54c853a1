"""How much noise a site adds in a run, and what that costs: fixed before the run starts."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.layout import CLIP, make_layout
from polyclinic_common.models.calibration import BOUNDS, ENTRIES
from polyclinic_common.models.score_head import length_of
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.charges import Charge, SampledSteps
from polyclinic_common.privacy.sum_plan import Path, SumPlan, plan_sum
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT, METRICS, STATISTICS, UPDATE
from polyclinic_common.releases.shares import (
    STATISTICS_SHARE,
    calibration_share,
    honest_shares,
    metrics_share,
    most_patients,
    part_of,
    training_share,
)
from polyclinic_common.study.manifest import Study

STATISTICS_CLIP = math.sqrt(2.0)
CHANGE_EXPONENT = -20  # changes of a model are released in units of 2^-20
NODE_PATH: Path = "rows"  # how a node makes its integer sums, which decides the charge


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


def local_sum_plan(study: Study, path: Path, declared: int, plan: NoisePlan) -> SumPlan:
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


def metrics_plan(study: Study, shares: int, declared: int) -> SumPlan:
    """Return grid and noise of the metric sums of so many honest shares (1 in mode local)."""
    rounds, length = len(study.metric_rounds), make_layout(study).length
    return _rows_plan(study, metrics_share(study), rounds, length, CLIP, shares, declared)


def calibration_plan(study: Study, shares: int, declared: int) -> SumPlan:
    """Return grid and noise of the calibration sums of so many honest shares (1 in mode local)."""
    share, steps, clip = calibration_share(study), study.calibration.steps, BOUNDS[study.loss].clip
    return _rows_plan(study, share, steps, ENTRIES, clip, shares, declared)


def _rows_plan(
    study: Study, share: float, rounds: int, length: int, clip: float, shares: int, declared: int
) -> SumPlan:
    """Return the plan of vectors summed row by row, for this share of the budget's mu^2."""
    delta = study.privacy.delta
    return plan_sum(
        part_of(study.privacy.epsilon, delta, share),
        delta,
        rounds,
        length,
        clip,
        shares,
        path="rows",
        most_patients=most_patients(declared),
    )


def rounds_of(study: Study) -> dict[str, Collection[int]]:
    """Return in which rounds a kind of sum or update may be asked for."""
    trained = range(1, study.training_rounds + 1)
    return {
        STATISTICS: trained,
        GRADIENT: trained,
        UPDATE: trained,
        CALIBRATION: range(study.training_rounds + 1, study.rounds + 1),
        METRICS: study.metric_rounds,
    }


def secure_sum_plans(study: Study, path: Path, declared: Collection[int]) -> dict[str, SumPlan]:
    """Return grid and noise of every kind of sum, in the order of a round; none in other modes.

    h = m - c honest shares make up the headline. `declared` are the declared patients of all
    hospitals: the largest bounds the rounding. Squares of mu add up, so a kind gets its share of
    the budget as a share of mu^2.
    """
    if study.privacy.mode != "secure-sum":
        return {}
    epsilon, delta, shares = study.privacy.epsilon, study.privacy.delta, honest_shares(study)
    most, left = most_patients(max(declared)), training_share(study)
    plans: dict[str, SumPlan] = {}
    if study.training.start == "statistics":
        width = Encoding(study).width
        entries = width * (width + 1) // 2 + width
        plans[STATISTICS] = _rows_plan(
            study, left * STATISTICS_SHARE, 1, entries, STATISTICS_CLIP, shares, max(declared)
        )
        left *= 1.0 - STATISTICS_SHARE
    part, rounds = part_of(epsilon, delta, left), study.training_rounds
    plans[GRADIENT] = plan_sum(
        part, delta, rounds, length_of(study), study.clip, shares, path=path, most_patients=most
    )
    if study.training.calibration is not None:
        plans[CALIBRATION] = calibration_plan(study, shares, max(declared))
    if study.metric_rounds:
        plans[METRICS] = metrics_plan(study, shares, max(declared))
    return plans


def local_charge(study: Study, declared: int, path: Path) -> Charge:
    """Return what one update of mode local costs."""
    plan = noise_plan(study, declared, study.privacy.epsilon)
    if plan.sampling_rate < 1.0:
        return SampledSteps(rate=plan.sampling_rate, multiplier=plan.multiplier, steps=plan.steps)
    sums = local_sum_plan(study, path, declared, plan)
    return sums.headline if study.strategy == "descent" else sums.headline.repeated(plan.steps)
