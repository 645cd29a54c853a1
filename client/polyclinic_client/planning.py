"""What a study releases at a hospital and what that costs: known before anything is approved."""

from __future__ import annotations

import math
from collections.abc import Mapping

from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.holdout import declared_for_training
from polyclinic_common.models.network import build_network, weight_count
from polyclinic_common.privacy.charges import Charge, SampledSteps
from polyclinic_common.privacy.plan import (
    METRICS,
    NODE_PATH,
    UPDATE,
    VOTE,
    local_sum_plan,
    metrics_plan,
    noise_plan,
    secure_sum_plans,
    vote_of,
)
from polyclinic_common.study.manifest import Study

LOST_SHARE = 0.1


def lost_rounds(study: Study) -> int:
    """Return how many rounds may stay at fallback unless the hospital says otherwise: a tenth."""
    return math.ceil(LOST_SHARE * study.rounds)


def plan_approval(study: Study, declared: Mapping[str, int], name: str, lost: int) -> Approval:
    """Return what a hospital approves for all runs of a study together.

    Parameters
    ----------
    declared : mapping
        Declared patients of every hospital, by name.
    name : str
        This hospital.
    lost : int
        Rounds that may stay at fallback.
    """
    return Approval(
        study_hash=bytes.fromhex(study.hash()),
        run=None,
        planned=planned_releases(study, declared, name),
        lost_rounds=min(lost, study.rounds),
        expires=study.expires,
    )


def planned_releases(study: Study, declared: Mapping[str, int], name: str) -> tuple[Planned, ...]:
    """Return every kind of release of a study, with number and prices."""
    sizes = {site: declared_for_training(study, site, size) for site, size in declared.items()}
    planned = _sums(study, sizes) or _updates(study, sizes[name])
    vote = vote_of(study)
    if vote is None:
        return planned
    return (*planned, Planned(kind=VOTE, releases=1, headline=vote, fallback=vote))


def _sums(study: Study, sizes: Mapping[str, int]) -> tuple[Planned, ...]:
    """Return the sums of mode secure-sum; none in mode local."""
    if study.privacy.mode != "secure-sum":
        return ()
    encoding = Encoding(study)
    length = weight_count(build_network(study, encoding))
    plans = secure_sum_plans(study, encoding.width, length, NODE_PATH, sizes.values())
    return tuple(
        Planned(kind=kind, releases=plan.rounds, headline=plan.headline, fallback=plan.fallback)
        for kind, plan in plans.items()
    )


def _updates(study: Study, size: int) -> tuple[Planned, ...]:
    """Return the releases of mode local, private on their own."""
    charges: dict[str, tuple[int, Charge]] = {UPDATE: (study.rounds, local_charge(study, size))}
    if study.metric_rounds:
        charges[METRICS] = len(study.metric_rounds), metrics_plan(study, 1, size).headline
    return tuple(
        Planned(kind=kind, releases=count, headline=charge, fallback=charge)
        for kind, (count, charge) in charges.items()
    )


def local_charge(study: Study, declared: int) -> Charge:
    """Return what one release of mode local costs, as `training.local_mechanism` charges it."""
    plan = noise_plan(study, declared, study.privacy.epsilon)
    if plan.sampling_rate < 1.0:
        return SampledSteps(rate=plan.sampling_rate, multiplier=plan.multiplier, steps=plan.steps)
    encoding = Encoding(study)
    length = weight_count(build_network(study, encoding))
    sums = local_sum_plan(study, length, NODE_PATH, declared, plan)
    return sums.headline if study.strategy == "descent" else sums.headline.repeated(plan.steps)
