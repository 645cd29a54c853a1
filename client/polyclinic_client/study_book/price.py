"""What a study releases at a hospital and what that costs: known before anything is approved."""

from __future__ import annotations

import math
from collections.abc import Mapping

from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_common.data.holdout import declared_for_training
from polyclinic_common.releases.plans import (
    NODE_PATH,
)
from polyclinic_common.releases.schedule import Schedule, declared_for
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
    return planned_in(schedule_at(study, declared, name))


def schedule_at(study: Study, declared: Mapping[str, int], name: str) -> Schedule:
    """Return the schedule of a node.

    Parameters
    ----------
    declared : mapping
        All declared patients of every hospital, by name.
    name : str
        This hospital.
    """
    sizes = {site: declared_for_training(study, size) for site, size in declared.items()}
    return Schedule.of(study, declared_for(study, sizes, name), NODE_PATH)


def planned_in(schedule: Schedule) -> tuple[Planned, ...]:
    """Return every kind of release of a schedule, with number and prices."""
    return tuple(
        Planned(kind=each.name, releases=each.times, headline=each.headline, fallback=each.fallback)
        for each in schedule.releases
        if each.headline is not None and each.fallback is not None
    )
