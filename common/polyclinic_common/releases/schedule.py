"""The schedule of a study: every release that a hospital makes, with plan and price.

The one answer to *which releases does this study make?*: node, gate, server, approval, audit and
documentation read it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from polyclinic_common.privacy.charges import Charge
from polyclinic_common.privacy.sum_plan import SumPath, SumPlan, plan_sum
from polyclinic_common.release_id import VOTE
from polyclinic_common.releases.kinds import UPDATE, Kind, SumKind, kinds_of
from polyclinic_common.releases.plans import (
    NODE_PATH,
    local_charge,
    local_sum_plan,
    noise_plan,
)
from polyclinic_common.releases.shares import (
    honest_shares,
    most_patients,
    part_of,
    share_of,
    vote_of,
)
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class Scheduled:
    """The releases of one kind.

    Attributes
    ----------
    kind : Kind
        The entry in the list of kinds.
    rounds : collection of int
        In which rounds they may be asked for.
    times : int
        How many a run makes.
    length : int
        Entries of one.
    plan : SumPlan or None
        Grid and noise, where one is a noisy sum; None for changes of a model, votes, and in mode
        none.
    headline, fallback : Charge or None
        What one costs if at most c participants collude, and if all others do; equal where it is
        private on its own; None in mode none.
    """

    kind: Kind
    rounds: Collection[int]
    times: int
    length: int
    plan: SumPlan | None = None
    headline: Charge | None = None
    fallback: Charge | None = None

    @property
    def name(self) -> str:
        """How ledger, journal and messages call the kind."""
        return self.kind.name


@dataclass(frozen=True)
class Schedule:
    """The releases of one hospital in every run of a study, in the order of a round.

    Attributes
    ----------
    study : Study
        The study.
    releases : tuple of Scheduled
        One item a kind.
    """

    study: Study
    releases: tuple[Scheduled, ...]

    @staticmethod
    def of(study: Study, declared: int, path: SumPath = NODE_PATH) -> Schedule:
        """Return the schedule of a hospital.

        Parameters
        ----------
        declared : int
            Declared patients that count as trained on: in mode secure-sum of the largest hospital,
            which bounds the rounding of all; in other modes of this one. See `declared_for`.
        path : {"rows", "products"}
            How gradient sums are made, which decides their grid and price.
        """
        made = (_scheduled(study, kind, declared, path) for kind in kinds_of(study))
        return Schedule(study, tuple(made))

    def __getitem__(self, kind: str) -> Scheduled:
        """Return the releases of a kind.

        Raises
        ------
        KeyError
            If the study makes none.
        """
        for each in self.releases:
            if each.name == kind:
                return each
        raise KeyError(kind)

    @property
    def secure_sums(self) -> dict[str, SumPlan]:
        """Grid and noise of every kind of secure sum; empty in other modes."""
        if self.study.privacy.mode != "secure-sum":
            return {}
        return {each.name: each.plan for each in self.releases if each.plan is not None}

    def plan(self, kind: str) -> SumPlan:
        """Return grid and noise of a kind of sum.

        Raises
        ------
        KeyError
            If the study makes none.
        """
        plan = self[kind].plan
        if plan is None:
            raise KeyError(kind)
        return plan


def declared_for(study: Study, sizes: Mapping[str, int], name: str) -> int:
    """Return the size that a hospital's schedule follows from.

    Parameters
    ----------
    sizes : mapping
        Declared patients of every hospital that count as trained on, by name.
    name : str
        This hospital.
    """
    return max(sizes.values()) if study.privacy.mode == "secure-sum" else sizes[name]


def _scheduled(study: Study, kind: Kind, declared: int, path: SumPath) -> Scheduled:
    rounds, times = kind.rounds(study), kind.times(study)
    if not isinstance(kind, SumKind):
        if kind.name != VOTE:
            raise TypeError(f"{kind.name} is neither a sum nor the vote: nothing says its price")
        vote = vote_of(study)
        return Scheduled(kind, rounds, times, 1, headline=vote, fallback=vote)
    length = kind.length(study)
    if study.privacy.mode == "none":
        return Scheduled(kind, rounds, times, length)
    if kind.name == UPDATE and not _is_sum(study, declared):
        price = local_charge(study, declared, path)
        return Scheduled(kind, rounds, times, length, headline=price, fallback=price)
    plan = _sum_plan(study, kind, declared, path)
    return Scheduled(kind, rounds, times, length, plan, plan.headline, plan.fallback)


def _is_sum(study: Study, declared: int) -> bool:
    """Say whether an update of mode local is a noisy sum, and not the change of a model."""
    whole = noise_plan(study, declared, None).sampling_rate == 1.0
    return whole and study.strategy == "descent"


def _sum_plan(study: Study, kind: SumKind, declared: int, path: SumPath) -> SumPlan:
    if kind.name == UPDATE:
        plan = noise_plan(study, declared, study.privacy.epsilon)
        return local_sum_plan(study, path, declared, plan)
    delta = study.privacy.delta
    return plan_sum(
        part_of(study.privacy.epsilon, delta, share_of(study, kind)),
        delta,
        kind.times(study),
        kind.length(study),
        kind.clip(study),
        honest_shares(study),
        path=path if kind.is_training else "rows",
        most_patients=most_patients(declared),
    )
