"""What a simulated run has cost every patient, read from the hospitals' ledgers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polyclinic_client.ledger.budget import Budget
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.prv import prv_epsilon
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.releases.plans import NoisePlan, noise_plan
from polyclinic_common.releases.shares import training_share
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.results.results import PrivacySpent, SumSpent

NOTHING = PrivacySpent(
    epsilon=None, delta=None, unit=gdp.UNIT, adjacency=gdp.ADJACENCY, accountant="none"
)


def spent(
    federation: Federation, budgets: Mapping[str, Budget], sums: SumPlan | None
) -> PrivacySpent:
    """Return the dearest hospital's account; `sums` is the plan of the secure sum, if any."""
    if not budgets:
        return NOTHING
    study = federation.study
    plans = [
        noise_plan(study, declared, study.privacy.epsilon)
        for declared in sorted(set(federation.declared.values()))
    ]
    accountants = {plan.accountant for plan in plans}
    return PrivacySpent(
        epsilon=max(budget.spent for budget in budgets.values()),
        epsilon_promised=study.privacy.epsilon,
        epsilon_two_hospitals=max(budget.two_hospitals for budget in budgets.values()),
        epsilon_prv=_prv(plans, study.privacy.delta) if training_share(study) == 1.0 else None,
        delta=study.privacy.delta,
        unit=gdp.UNIT,
        adjacency=gdp.ADJACENCY,
        accountant=rdp.ACCOUNTANT if rdp.ACCOUNTANT in accountants else gdp.ACCOUNTANT,
        sums=None if sums is None else _sums(federation, budgets, sums),
    )


def _sums(federation: Federation, budgets: Mapping[str, Budget], plan: SumPlan) -> SumSpent:
    study, size = federation.study, len(federation.declared)
    return SumSpent(
        epsilon_fallback=max(budget.fallback for budget in budgets.values()),
        m=study.m,
        c=study.c,
        hospitals=size,
        verified=size,
        noise_excess=plan.noise_excess(size),
        rounds_at_fallback=max(
            sum(line.at_fallback for line in budget.lines) for budget in budgets.values()
        ),
    )


def _prv(plans: Sequence[NoisePlan], delta: float) -> float | None:
    """Return the PRV figure of the dearest hospital of a sampled run, for information."""
    sampled = [plan for plan in plans if plan.sampling_rate < 1.0]
    if not sampled:
        return None
    plan = max(sampled, key=lambda plan: plan.spent_epsilon(delta))
    return prv_epsilon(plan.multiplier, plan.sampling_rate, plan.steps * plan.rounds, delta)
