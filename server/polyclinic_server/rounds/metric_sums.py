"""The metric sums of a run: asked for when the study says, kept with the run, read at will."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np

from polyclinic_common.evaluation.layout import Layout, make_layout, private_of
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.reading import GroupReading, Size, held_out_sizes, read_sum
from polyclinic_common.evaluation.survival import hazard_profile
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.study.manifest import Study
from polyclinic_server.rounds.state import KeptSum


@dataclass(frozen=True)
class MetricReader:
    """How metric sums are read: public numbers of the study.

    Attributes
    ----------
    layout : Layout
        What the entries of a sum mean.
    plan : SumPlan
        Grid and noise.
    sizes : mapping
        What public numbers tell of every hospital's held-out patients; empty where none does.
    smallest : int
        Groups with fewer patients are not shown.
    patience : int or None
        Releases without a better value of the first metric, after which training stops.
    profile_of : callable
        Gives what a model adds to a patient's risk in every interval; None but for survival.
    """

    layout: Layout
    plan: SumPlan
    sizes: Mapping[str, Size]
    smallest: int
    patience: int | None = None
    profile_of: Callable[[Vector], Vector | None] = lambda _: None

    @classmethod
    def of(cls, study: Study, plan: SumPlan, declared: Mapping[str, int]) -> Self:
        """Return the reader of a study's metrics, of hospitals that declared these patients."""
        layout, private = make_layout(study), private_of(study)
        sizes = held_out_sizes(study, declared)
        profile_of = partial(hazard_profile, study)
        return cls(layout, plan, sizes, private.smallest, private.patience, profile_of)

    def read(self, released: KeptSum) -> tuple[GroupReading, ...]:
        """Return the metrics of every group, with intervals."""
        noise = self.plan.deviation * np.sqrt(len(released.sites))
        sizes = {site: size for site, size in self.sizes.items() if site in released.sites}
        return read_sum(
            self.layout, released.total, float(noise), sizes, self.smallest, released.profile
        )

    def stops(self, released: Sequence[KeptSum]) -> bool:
        """Say whether training stops: a function of what was released, and charged, alone."""
        if self.patience is None:
            return False
        return has_stalled(self._merits(released), self.patience)

    def choose(self, released: Sequence[KeptSum]) -> int:
        """Say which release is best: a function of what was released, and charged, alone."""
        return first_best(self._merits(released))

    def _merits(self, released: Sequence[KeptSum]) -> list[float]:
        """Return the first metric of every release, the higher the better."""
        overall = self.layout.tables[0]
        metric = next(part.metric for part in overall.parts if part is not overall.count)
        readings = [self.read(each)[0].metrics.get(metric) for each in released]
        return [merit(metric, None if each is None else each.value) for each in readings]


def merit(metric: str, value: float | None) -> float:
    """Return a metric so that more is better; an undefined one is worse than all others."""
    if value is None:
        return -math.inf
    return -value if METRICS[metric].lower_is_better else value


def first_best(values: Sequence[float]) -> int:
    """Return which value is the largest, from 0; the first of equal ones."""
    return max(range(len(values)), key=values.__getitem__)


def has_stalled(values: Sequence[float], patience: int) -> bool:
    """Say whether none of the last `patience` values is better than the best before them."""
    earlier, last = values[:-patience], values[-patience:]
    return bool(earlier) and max(last) <= max(earlier)
