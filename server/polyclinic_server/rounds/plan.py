"""What a study makes of a run: the coordinator's plan, from public numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.sum_plan import SumPath, SumPlan
from polyclinic_common.releases.kinds import (
    CALIBRATION,
    GRADIENT,
    METRICS,
    STATISTICS,
    UPDATE,
    SumKind,
)
from polyclinic_common.releases.plans import noise_plan
from polyclinic_common.releases.schedule import Schedule, Scheduled
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.sections import Acceptance
from polyclinic_server.rounds.calibration import Calibrator
from polyclinic_server.rounds.combiner import Combiner, make_combiner
from polyclinic_server.rounds.mail import Watch, unwatched
from polyclinic_server.rounds.menu import Choose, Menu
from polyclinic_server.rounds.metric_sums import MetricReader
from polyclinic_server.rounds.optimizer import noise_ridge
from polyclinic_server.rounds.reach import Reaches, reaches_of_sums, reaches_of_updates
from polyclinic_server.rounds.state import KeptSum, State

USED = frozenset({STATISTICS, GRADIENT, UPDATE, CALIBRATION})
"""Kinds of sums that a round makes use of at once."""


def make_plan(
    study: Study,
    run_id: str,
    node_of: Mapping[str, int],
    declared: Mapping[str, int],
    start: Vector,
    sums: Mapping[str, SumPlan],
    epsilon: float | None,
    fewest: int,
    timeout_s: float,
    evaluation: MetricReader | None = None,
    choose: Choose | None = None,
    reaches: Reaches | None = None,
) -> RunPlan:
    """Return the coordinator's plan of a run.

    Parameters
    ----------
    declared : mapping
        Declared patients of the sites that take part.
    start : array of shape (d,)
        The public starting point, towards which the ridge pulls.
    sums : mapping
        Grid and noise of every kind of secure sum; empty in the modes without one.
    epsilon : float or None
        What the noise is for; None is without noise.
    fewest : int
        m: a round with fewer answers ends the run.
    timeout_s : float
        Seconds to wait for answers in one round.
    evaluation : MetricReader or None
        How metrics are read; None where the study releases none.
    choose : callable or None
        Chooses from the menu; None chooses by the released metrics.
    reaches : mapping or None
        What hospitals can have computed, by kind and name; None checks nothing.
    """
    ridge = suggested_ridge(study, epsilon, declared)
    return RunPlan(
        study_hash=study.hash(),
        run_id=run_id,
        node_of=node_of,
        rounds=study.training_rounds,
        combiner=make_combiner(study, start, ridge, declared),
        fewest=fewest,
        timeout_s=timeout_s,
        sum_plans=sums,
        kept=() if epsilon is None else kept_kinds(study, declared),
        evaluation=evaluation,
        menu=make_menu(study, start, evaluation, choose),
        acceptance=study.evaluation.acceptance if epsilon is not None else None,
        reaches=reaches or {},
        calibrator=make_calibrator(study, epsilon, declared),
    )


def kept_kinds(study: Study, declared: Mapping[str, int]) -> tuple[Scheduled, ...]:
    """Return the sums that are asked for only to be kept."""
    schedule = Schedule.of(study, max(declared.values()))
    return tuple(
        each
        for each in schedule.releases
        if isinstance(each.kind, SumKind) and each.name not in USED
    )


def make_calibrator(
    study: Study, epsilon: float | None, declared: Mapping[str, int]
) -> Calibrator | None:
    """Return what sets level and slope right, if the study asks for it."""
    if study.training.calibration is None:
        return None
    if epsilon is None:
        return Calibrator(Encoding(study), 0.0)
    plan = Schedule.of(study, max(declared.values())).plan(CALIBRATION)
    return Calibrator(Encoding(study), plan.deviation)


def make_menu(
    study: Study, start: Vector, evaluation: MetricReader | None, choose: Choose | None = None
) -> Menu | None:
    """Return the menu of a study, chosen from by released metrics unless `choose` is given.

    Raises
    ------
    ValueError
        If there is nothing to choose by.
    """
    training = study.training
    if not training.menu:
        return None
    if choose is None:
        if evaluation is None:
            raise ValueError("no metrics are released to choose by")
        choose = by_released(evaluation)
    return Menu(len(training.menu), training.rounds, start, choose)


def by_released(evaluation: MetricReader) -> Choose:
    """Return what chooses by the metrics that were released, and by nothing else."""
    return lambda state: evaluation.choose(state.kept(METRICS))


def reaches_of(
    study: Study,
    sums: Mapping[str, SumPlan],
    sizes: Mapping[str, int],
    trained: Mapping[str, int],
    path: SumPath,
) -> Reaches:
    """Return what the hospitals of a private run can have computed; see `reaches_of_updates`."""
    if sums:
        return reaches_of_sums(sums, sizes)
    return reaches_of_updates(study, sizes, trained, path)


def suggested_ridge(study: Study, epsilon: float | None, declared: Mapping[str, int]) -> float:
    """Return the ridge that noise suggests: of one round's total, or of one release of the budget.

    Mode local: the full noise at every site. Secure sum: a share at every site, of which h make up
    the full noise.
    """
    draws: float = len(declared)
    if study.privacy.mode == "secure-sum":
        draws /= study.m - study.c
    return ridge_against(study, epsilon, sum(declared.values()), draws)


def ridge_against(study: Study, epsilon: float | None, total: int, draws: float) -> float:
    """Return the ridge against so many draws of the noise of `total` declared patients."""
    plan = noise_plan(study, total, epsilon)
    deviation = plan.multiplier * study.clip
    if study.training.ridge == "release":
        deviation /= np.sqrt(plan.steps * plan.rounds)
    return noise_ridge(deviation, draws, total)


@dataclass(frozen=True)
class RunPlan:
    """What one run does, fixed before it starts.

    Attributes
    ----------
    study_hash, run_id : str
        What is trained, and the name of this run.
    node_of : mapping
        Flower node of every site that takes part.
    rounds : int
        Rounds of training.
    combiner : Combiner
        Turns what the sites released into a model.
    fewest : int
        m: a round with fewer answers ends the run.
    timeout_s : float
        Seconds to wait for answers in one round.
    sum_plans : mapping
        Grid and noise of every kind of secure sum; empty in the modes without one.
    watch : callable
        Told what is waited for.
    keep : callable
        Keeps, durably, where the run stands, before sites are asked what they answer only once.
    kept : tuple of Scheduled
        What is asked for to be kept, in the order of a round: metrics, and whatever kind of sum
        the server makes no other use of.
    evaluation : MetricReader or None
        How metrics are read; None where there are none.
    acceptance : Acceptance or None
        How hospitals vote on the trained model; None asks for no votes.
    menu : Menu or None
        Settings to train and choose from; None trains one.
    calibrator : Calibrator or None
        What sets level and slope right after training; None leaves them.
    identities : mapping
        Identity key of every site, by name; empty in the modes without secure sums.
    reaches : mapping
        What every site can have computed, by kind and name; what is not named is not checked.
    """

    study_hash: str
    run_id: str
    node_of: Mapping[str, int]
    rounds: int
    combiner: Combiner
    fewest: int
    timeout_s: float = 600.0
    sum_plans: Mapping[str, SumPlan] = field(default_factory=dict)
    watch: Watch = unwatched
    keep: Callable[[State], None] = lambda _: None
    kept: tuple[Scheduled, ...] = ()
    evaluation: MetricReader | None = None
    acceptance: Acceptance | None = None
    menu: Menu | None = None
    calibrator: Calibrator | None = None
    identities: Mapping[str, bytes] = field(default_factory=dict)
    reaches: Reaches = field(default_factory=dict)

    def stops(self, state: State) -> bool:
        """Say whether training ends before the last round."""
        return self.evaluation is not None and self.evaluation.stops(state.kept(METRICS))

    def turned(self, state: State) -> State:
        """Return the state with the next setting of the menu begun, if one has just ended."""
        if self.menu is None or state.calibrated is not None:
            return state
        return self.menu.turned(state)

    def is_trained(self, state: State) -> bool:
        """Say whether the rounds of training are over."""
        return (
            state.calibrated is not None or state.round_number >= self.rounds or self.stops(state)
        )

    def owed(self, state: State) -> list[Scheduled]:
        """Return what is due after the last round, only to be kept, and was not released yet."""
        number = state.round_number
        made = {said.kind for said in state.released if said.round_number == number}
        return [each for each in self.kept if number in each.rounds and each.name not in made]

    def keeping(self, state: State, kind: str, total: Vector, sites: tuple[str, ...]) -> State:
        """Return the state with one more sum over these sites, kept for reading."""
        number, profile = state.round_number, None
        if self.evaluation is not None and kind == METRICS:
            profile = self.evaluation.profile_of(state.average)
        kept = KeptSum(number, total, sites, profile, kind)
        return replace(state, released=(*state.released, kept))
