"""The metric sums of a run: asked for when the study says, kept with the run, read at will."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from polyclinic_common.evaluation.layout import Layout, make_layout, private_of
from polyclinic_common.evaluation.reading import GroupReading, read_sum
from polyclinic_common.models.network import Vector
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class MetricSum:
    """What hospitals released about the model after a round.

    Attributes
    ----------
    round_number : int
        The round.
    total : array of shape (length,)
        The noisy sum, in units of the clip.
    sites : tuple of str
        The hospitals in it.
    """

    round_number: int
    total: Vector
    sites: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """When metrics are asked for, and how they are read: public numbers of the study.

    Attributes
    ----------
    rounds : tuple of int
        Rounds after which metrics are asked for.
    layout : Layout
        What the entries of a sum mean.
    plan : SumPlan
        Grid and noise.
    held_out : mapping
        Declared held-out patients of every hospital.
    smallest : int
        Groups with fewer patients are not shown.
    """

    rounds: tuple[int, ...]
    layout: Layout
    plan: SumPlan
    held_out: Mapping[str, int]
    smallest: int

    @classmethod
    def of(cls, study: Study, plan: SumPlan, held_out: Mapping[str, int]) -> Self:
        """Return the evaluation that a study asks for."""
        layout, smallest = make_layout(study), private_of(study).smallest
        return cls(study.metric_rounds, layout, plan, held_out, smallest)

    def read(self, released: MetricSum) -> tuple[GroupReading, ...]:
        """Return the metrics of every group, with intervals."""
        noise = self.plan.deviation * np.sqrt(len(released.sites))
        declared = {site: self.held_out[site] for site in released.sites}
        return read_sum(self.layout, released.total, float(noise), declared, self.smallest)
