"""The coordinator: the rounds of one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from polyclinic_common.errors import Code, RunError
from polyclinic_common.models.network import LARGEST_WEIGHT, Vector
from polyclinic_common.privacy.plan import GRADIENT, STATISTICS
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.secure_sum.masks import Integers
from polyclinic_common.wire import PrivateUpdate, Release, SettleRequest, TrainRequest
from polyclinic_server.combiner import Combiner, Descent
from polyclinic_server.flower import Ask, Mail, Watch, unwatched
from polyclinic_server.observers import Observer, Round
from polyclinic_server.optimizer import State
from polyclinic_server.secure_sum import Carried, SecureSums, too_few
from polyclinic_server.warm_start import solve_statistics


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
        Rounds of the run.
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


class Rounds(Protocol):
    """Takes a run from one round to the next."""

    def advance(self, state: State) -> Round:
        """Carry out the next round."""
        ...

    def close(self) -> None:
        """End the run at the sites."""
        ...


def run_rounds(grid: Grid, plan: RunPlan, state: State, observers: Sequence[Observer]) -> State:
    """Run the remaining rounds and return the final state."""
    rounds = make_rounds(grid, plan, state)
    while state.round_number < plan.rounds:
        finished = rounds.advance(state)
        state = finished.state
        if not (np.abs(state.weights) <= LARGEST_WEIGHT).all():
            raise RunError(
                Code.RUN_DIVERGED,
                f"Training diverged in round {state.round_number}.",
                "Lower training.learning_rate in the study.",
            )
        for observer in observers:
            observer.after_round(finished)
    rounds.close()
    return state


def make_rounds(grid: Grid, plan: RunPlan, state: State) -> Rounds:
    """Return what carries out the rounds of a plan, from where `state` stands."""
    mail = Mail(grid, plan.node_of, plan.timeout_s, plan.watch)
    if not plan.sum_plans or not isinstance(plan.combiner, Descent):
        return UpdateRounds(plan, mail.ask)
    sums = SecureSums(
        plan.study_hash,
        plan.run_id,
        list(plan.node_of),
        plan.fewest,
        mail.ask,
        Carried.from_bytes(state.carried),
    )
    return SumRounds(sums, plan.combiner, plan.sum_plans, plan.keep)


@dataclass(frozen=True)
class SumRounds:
    """Mode secure-sum: one noisy sum a round, and a step of descent along it."""

    sums: SecureSums
    combiner: Descent
    plans: Mapping[str, SumPlan]
    keep: Callable[[State], None]

    def advance(self, state: State) -> Round:
        """Carry out the next round; the first may start with sufficient statistics."""
        if STATISTICS in self.plans and self.sums.carried.previous is None:
            state = self._started(state)
        plan = self.plans[GRADIENT]
        total, sites = self._sum(GRADIENT, state, plan.length)
        gradient = np.asarray(total * plan.grid, dtype=np.float64)
        following = self._after(self.combiner.descend(state, gradient, sites))
        return Round(following.round_number, {}, following, sites)

    def _started(self, state: State) -> State:
        plan = self.plans[STATISTICS]
        total, sites = self._sum(STATISTICS, state, plan.length)
        noise = plan.deviation * math.sqrt(len(sites))
        values = np.asarray(total * plan.grid, dtype=np.float64)
        weights = solve_statistics(values, state.weights, noise)
        started = self._after(replace(state, weights=weights))
        self.keep(started)
        return started

    def _sum(self, kind: str, state: State, length: int) -> tuple[Integers, tuple[str, ...]]:
        def keep(carried: Carried) -> None:
            self.keep(replace(state, carried=carried.to_bytes()))

        return self.sums.sum(state.round_number + 1, state.weights, kind, length, keep)

    def _after(self, state: State) -> State:
        return replace(state, carried=self.sums.carried.to_bytes())

    def close(self) -> None:
        """Exchange the last closing statements."""
        self.sums.close()


@dataclass
class UpdateRounds:
    """Modes local and none: every site's own update, combined.

    Who did not answer a round gets the next request too, but nobody waits for it.
    """

    plan: RunPlan
    ask: Ask
    away: set[str] = field(default_factory=set)

    def advance(self, state: State) -> Round:
        """Carry out the next round."""
        plan, number = self.plan, state.round_number + 1
        request = TrainRequest(plan.study_hash, plan.run_id, number, state.weights)
        updates = accept(plan, request, self._ask_all(request))
        return Round(number, updates, plan.combiner.step(state, updates), tuple(updates))

    def _ask_all(self, request: TrainRequest) -> dict[str, Release]:
        away = sorted(self.away)
        replies = self.ask(request, away, wait=False)
        replies |= self.ask(request, [site for site in self.plan.node_of if site not in away])
        replies |= self.ask(request, [site for site in away if site not in replies], wait=False)
        self.away = self.plan.node_of.keys() - replies.keys()
        return {site: replies[site] for site in self.plan.node_of if site in replies}

    def close(self) -> None:
        """Let the sites erase what they stored."""
        plan = self.plan
        self.ask(SettleRequest(plan.study_hash, plan.run_id, ()), list(plan.node_of))


def accept(
    plan: RunPlan, request: TrainRequest, replies: Mapping[str, Release]
) -> dict[str, Vector]:
    """Return the vectors that answer exactly `request`, by site.

    Raises
    ------
    RunError
        If fewer than `plan.fewest` sites answered; it names the silent and refusing sites.
    """
    updates: dict[str, Vector] = {}
    for site, reply in replies.items():
        if (
            isinstance(reply, PrivateUpdate)
            and (reply.study_hash, reply.run_id) == (plan.study_hash, plan.run_id)
            and reply.round_number == request.round_number
            and reply.vector.shape == request.weights.shape
        ):
            updates[site] = reply.vector
    if len(updates) < plan.fewest:
        what = f"Round {request.round_number}"
        raise too_few(what, plan.fewest, updates, replies, plan.node_of)
    return updates


def make_server_app(
    plan_of: Callable[[Grid], tuple[RunPlan, State]],
    observers: Sequence[Observer],
    done: Callable[[State], None],
) -> ServerApp:
    """Return the Flower ServerApp; `plan_of` gives plan and state, `done` takes the result."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        plan, state = plan_of(grid)
        done(run_rounds(grid, plan, state, observers))

    return app
