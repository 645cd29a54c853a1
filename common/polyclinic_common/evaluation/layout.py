"""The joint vector of a metric release: one table over everybody, and one for every group.

A patient's entries in all tables form one vector of norm at most 1: shares of the squared norm
are dealt out among the tables that a patient can be in at once, and within each among metrics.
Where no public number says how many patients a table holds, they are counted in it, with noise.
All survival metrics are read from the cells of one histogram, whichever of them a study names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import subgroup_names
from polyclinic_common.evaluation.statistic import Count, Judged, Statistic
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.sections import (
    SURVIVAL_METRICS,
    Fraction,
    MetricName,
    PrivateEvaluation,
)

Floats = NDArray[np.float64]
GroupKind = Literal["overall", "site", "subgroup"]
CLIP = 1.0
OVERALL_SHARE = 0.5  # where there are other tables
MAIN_SHARE = 0.5  # of the metric that is named first, where there are others
COUNT_SHARE = 0.25  # of a table whose patients are counted, for their number
OUTCOME, EVENT, MEMBERS = 0, 1, 2  # columns of a held-out cohort's truth


@dataclass(frozen=True)
class Part:
    """Entries of one statistic in one table.

    Attributes
    ----------
    metric : str
        The metric, the first of those that are read from the same entries, or "count".
    statistic : Statistic
        What a patient adds.
    start : int
        Its first entry.
    weight : float
        What its entries are multiplied with.
    """

    metric: MetricName | Literal["count"]
    statistic: Statistic
    start: int
    weight: float

    @property
    def entries(self) -> slice:
        """Its entries."""
        return slice(self.start, self.start + self.statistic.size)


@dataclass(frozen=True)
class GroupTable:
    """The metrics of a group of patients.

    Attributes
    ----------
    kind, name : str
        Which group.
    member : int or None
        The column of the truth that is 1 for its patients; None takes everybody.
    parts : tuple of Part
        Its entries.
    """

    kind: GroupKind
    name: str
    member: int | None
    parts: tuple[Part, ...]

    @property
    def count(self) -> Part | None:
        """The number of its patients; None where a public number stands for it."""
        return next((part for part in self.parts if part.metric == "count"), None)


@dataclass(frozen=True)
class Layout:
    """All tables of a metric release."""

    tables: tuple[GroupTable, ...]

    @property
    def length(self) -> int:
        """Entries of the joint vector."""
        last = self.tables[-1].parts[-1]
        return last.start + last.statistic.size

    def rows(self, judged: Judged, truth: Floats) -> Floats:
        """Return every patient's joint vector, shape (n, length), each of norm at most 1."""
        found = np.zeros((len(truth), self.length))
        for table in self.tables:
            member = 1.0 if table.member is None else truth[:, table.member, None]
            for part in table.parts:
                found[:, part.entries] = member * part.weight * part.statistic.rows(judged)
        return found


def make_layout(study: Study) -> Layout:
    """Return the joint vector that a study releases.

    Raises
    ------
    ValueError
        If the study releases no metrics.
    """
    groups, unknown = _groups(study), not isinstance(study.evaluation.holdout, Fraction)
    ways = len({way for way, *_ in groups}) - 1
    start, tables = 0, list[GroupTable]()
    for way, kind, name, member in groups:
        share = 1.0 if ways == 0 else OVERALL_SHARE if way == 0 else (1 - OVERALL_SHARE) / ways
        parts = _parts(study, share, start, counted=unknown or kind == "subgroup")
        tables.append(GroupTable(kind, name, member, parts))
        start += sum(part.statistic.size for part in parts)
    return Layout(tuple(tables))


def contributions(
    layout: Layout, encoding: Encoding, weights: Vector, x: Floats, truth: Floats, mask: Floats
) -> Floats:
    """Return the joint vectors of held-out patients at a model; zeros where the mask is 0.

    Parameters
    ----------
    x, truth, mask : arrays of shape (n, width), (n, 2 + groups), (n, 1)
        A cohort of :func:`polyclinic_common.evaluation.observed.held_out_cohort`.
    """
    predicted = predict(encoding.study, encoding, weights, x).value
    judged = Judged(predicted, truth[:, OUTCOME], truth[:, EVENT])
    return mask * layout.rows(judged, truth)


def _groups(study: Study) -> list[tuple[int, GroupKind, str, int | None]]:
    """Return the groups: in which way patients are divided, kind, name and column of the truth.

    A patient is in at most one group of each way.
    """
    private, sites = private_of(study), study.roster.sites
    found: list[tuple[int, GroupKind, str, int | None]] = [(0, "overall", "all", None)]
    if private.by_site:
        found += [(1, "site", name, MEMBERS + index) for index, name in enumerate(sites)]
    if private.subgroups:
        names = subgroup_names(study)
        first = MEMBERS + len(sites)
        found += [
            (2 + way, "subgroup", name, first + index) for index, (way, name) in enumerate(names)
        ]
    return found


def _parts(study: Study, share: float, start: int, *, counted: bool) -> tuple[Part, ...]:
    """Return the entries of one table, which takes this share of a patient's squared norm."""
    metrics = study.private_metrics
    if metrics[0] in SURVIVAL_METRICS:
        metrics = metrics[:1]
    shares: list[tuple[MetricName | Literal["count"], Statistic, float]] = []
    left = share
    if counted:
        shares.append(("count", Count(), COUNT_SHARE * share))
        left = (1.0 - COUNT_SHARE) * share
    others = len(metrics) - 1
    for index, metric in enumerate(metrics):
        main = 1.0 if others == 0 else MAIN_SHARE
        part = main if index == 0 else (1.0 - MAIN_SHARE) / others
        shares.append((metric, METRICS[metric].statistic(study), part * left))
    parts = []
    for metric_name, statistic, squared in shares:
        parts.append(Part(metric_name, statistic, start, float(np.sqrt(squared))))
        start += statistic.size
    return tuple(parts)


def private_of(study: Study) -> PrivateEvaluation:
    """Return what a study says about metrics that leave; it must say something."""
    if study.evaluation.private is None:
        raise ValueError("the study releases no metrics")
    return study.evaluation.private
