"""What a study releases at a hospital and what that costs: known before anything is approved."""

from __future__ import annotations

import math
from collections.abc import Mapping

from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_common.data.holdout import declared_for_training
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.privacy.sum_plan import Path
from polyclinic_common.releases.kinds import CALIBRATION, METRICS, UPDATE, VOTE
from polyclinic_common.releases.plans import (
    NODE_PATH,
    calibration_plan,
    local_charge,
    metrics_plan,
    secure_sum_plans,
)
from polyclinic_common.releases.shares import vote_of
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
    """Return every kind of release of a study at a node, with number and prices."""
    sizes = {site: declared_for_training(study, size) for site, size in declared.items()}
    return planned_with(study, sizes, name, NODE_PATH)


def planned_with(
    study: Study, sizes: Mapping[str, int], name: str, path: Path
) -> tuple[Planned, ...]:
    """Return every kind of release of a study, with number and prices.

    Parameters
    ----------
    sizes : mapping
        Declared patients of every hospital that count as trained on, by name.
    path : {"rows", "products"}
        How integer sums are made.
    """
    planned = [
        Planned(kind=kind, releases=plan.rounds, headline=plan.headline, fallback=plan.fallback)
        for kind, plan in secure_sum_plans(study, path, sizes.values()).items()
    ]
    if not planned:
        charge = local_charge(study, sizes[name], path)
        planned.append(_at_one_price(UPDATE, study.training_rounds, charge))
        if study.training.calibration is not None:
            plan = calibration_plan(study, 1, sizes[name])
            planned.append(_at_one_price(CALIBRATION, plan.rounds, plan.headline))
        if study.metric_rounds:
            charge = metrics_plan(study, 1, sizes[name]).headline
            planned.append(_at_one_price(METRICS, len(study.metric_rounds), charge))
    vote = vote_of(study)
    if vote is not None:
        planned.append(_at_one_price(VOTE, 1, vote))
    return tuple(planned)


def _at_one_price(kind: str, releases: int, charge: Charge) -> Planned:
    """Return releases that are private on their own."""
    return Planned(kind=kind, releases=releases, headline=charge, fallback=charge)
