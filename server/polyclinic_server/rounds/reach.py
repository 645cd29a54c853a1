"""What an honest hospital can have computed: multiples of a public grid, within public bounds.

Noise has no bound, but an honest draw beyond 64 deviations is as good as impossible (below 1e-880).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.privacy.sum_plan import SumPath, SumPlan
from polyclinic_common.releases.kinds import SumKind, kinds_of
from polyclinic_common.releases.plans import (
    CHANGE_EXPONENT,
)
from polyclinic_common.releases.schedule import Schedule, Scheduled
from polyclinic_common.releases.shares import most_patients
from polyclinic_common.study.manifest import Study

DEVIATIONS = 64.0


@dataclass(frozen=True)
class Reach:
    """Where a hospital's release of one kind can lie.

    Attributes
    ----------
    grid_exponent : int
        Every entry is a multiple of 2^grid_exponent.
    largest : float
        Bound on every entry.
    of_model : bool
        Whether an entry is the change of a weight: then the bound is one on the changed weight.
    """

    grid_exponent: int
    largest: float
    of_model: bool = False

    def holds(self, release: Vector, weights: Vector) -> bool:
        """Say whether a release, in answer to these weights, can have been computed."""
        reached = weights + release if self.of_model else release
        if not (np.abs(reached) <= self.largest).all():  # what is not finite is not, either
            return False
        units = np.ldexp(release, -self.grid_exponent)
        return bool((units == np.rint(units)).all())


Reaches = Mapping[str, Mapping[str, Reach]]
"""By kind of release and by hospital."""


def reach_of_sum(plan: SumPlan, declared: int) -> Reach:
    """Return the reach of one hospital's noisy sum: it has at most so many patients."""
    return Reach(
        plan.grid_exponent, most_patients(declared) * plan.clip + DEVIATIONS * plan.deviation
    )


def reaches_of_sums(plans: Mapping[str, SumPlan], sizes: Mapping[str, int]) -> Reaches:
    """Return the reach of every hospital's part in the secure sums of a run."""
    return {
        kind: {site: reach_of_sum(plan, size) for site, size in sizes.items()}
        for kind, plan in plans.items()
    }


def reaches_of_updates(
    study: Study, sizes: Mapping[str, int], trained: Mapping[str, int], path: SumPath
) -> Reaches:
    """Return the reach of every hospital's releases in mode local.

    Parameters
    ----------
    sizes, trained : mapping
        All declared patients of every hospital, and those that count as trained on.
    path : {"rows", "products"}
        How gradient sums are made, which decides their grid.
    """
    schedules = {site: Schedule.of(study, trained[site], path) for site in trained}
    return {
        kind.name: {s: _reach_of(made[kind.name], sizes[s]) for s, made in schedules.items()}
        for kind in kinds_of(study)
        if isinstance(kind, SumKind)
    }


def _reach_of(scheduled: Scheduled, size: int) -> Reach:
    """Return the reach of a noisy sum, or of the change of a model after steps at the site."""
    if scheduled.plan is not None:
        return reach_of_sum(scheduled.plan, size)
    return Reach(CHANGE_EXPONENT, LARGEST_WEIGHT + 2.0**CHANGE_EXPONENT, of_model=True)
