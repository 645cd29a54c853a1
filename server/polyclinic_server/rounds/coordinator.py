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
from polyclinic_common.models.calibration import ENTRIES
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT, STATISTICS, UPDATE
from polyclinic_common.wire import (
    PrivateUpdate,
    Release,
    SettleRequest,
    TrainRequest,
    VoteRequest,
)
from polyclinic_server.rounds.calibration import Calibrator
from polyclinic_server.rounds.combiner import Descent
from polyclinic_server.rounds.mail import Ask, Mail
from polyclinic_server.rounds.observers import Observer, Round
from polyclinic_server.rounds.plan import RunPlan
from polyclinic_server.rounds.regression_start import solve_statistics
from polyclinic_server.rounds.state import State
from polyclinic_server.rounds.sums import Carried, SecureSums, too_few_for, why
from polyclinic_server.rounds.votes import ask_for_verdict

IMPLAUSIBLE = "sent what no hospital can have computed"


class Rounds(Protocol):
    """Takes a run from one round to the next."""

    def advance(self, state: State) -> Round:
        """Carry out the next round."""
        ...

    def calibrate(self, state: State, number: int, calibrator: Calibrator) -> Round:
        """Carry out a round of calibration."""
        ...

    def measured(self, state: State) -> State:
        """Return the state with the sums that are due after its round, only to be kept."""
        ...

    def close(self) -> None:
        """End the run at the sites."""
        ...


def run_rounds(grid: Grid, plan: RunPlan, state: State, observers: Sequence[Observer]) -> State:
    """Run the remaining rounds and return the final state."""
    ask = Mail(grid, plan.node_of, plan.timeout_s, plan.watch).ask
    rounds = make_rounds(plan, state, ask)
    state = plan.turned(rounds.measured(state))  # a run that was cut off may owe both
    while not plan.is_trained(state):
        state = plan.turned(_told(rounds.advance(state), observers))
    if plan.calibrator is not None:
        for number in plan.calibrator.rounds:
            if number > state.round_number:
                state = _told(rounds.calibrate(state, number, plan.calibrator), observers)
    if plan.acceptance is not None:
        request = VoteRequest(plan.study_hash, plan.run_id, state.round_number, state.average)
        sites = list(plan.node_of)
        verdict = ask_for_verdict(ask, request, sites, plan.acceptance, plan.fewest)
        state = replace(state, verdict=verdict)
    rounds.close()
    return state


def _told(finished: Round, observers: Sequence[Observer]) -> State:
    """Return the state after a round that observers were told of."""
    state = finished.state
    if not (np.abs([state.weights, state.average]) <= LARGEST_WEIGHT).all():
        raise RunError(
            Code.RUN_DIVERGED,
            f"Training diverged in round {state.round_number}.",
            "Lower training.learning_rate in the study.",
        )
    for observer in observers:
        observer.after_round(finished)
    return state


def make_rounds(plan: RunPlan, state: State, ask: Ask) -> Rounds:
    """Return what carries out the rounds of a plan, from where `state` stands."""
    if not plan.sum_plans or not isinstance(plan.combiner, Descent):
        return UpdateRounds(plan, ask)
    sums = SecureSums(
        plan.study_hash,
        plan.run_id,
        plan.identities,
        plan.fewest,
        ask,
        Carried.from_bytes(state.carried),
    )
    return SumRounds(plan, sums, plan.combiner)


@dataclass(frozen=True)
class SumRounds:
    """Mode secure-sum: one noisy sum a round, and a step of descent along it."""

    plan: RunPlan
    sums: SecureSums
    combiner: Descent

    def advance(self, state: State) -> Round:
        """Carry out the next round; the first may start with sufficient statistics."""
        if STATISTICS in self.plan.sum_plans and self.sums.carried.previous is None:
            state = self._started(state)
        gradient, sites = self._sum(state, GRADIENT, state.round_number + 1, state.weights)
        state = self._after(self.combiner.descend(state, gradient, sites))
        state = self.measured(state)
        return Round(state.round_number, {}, state, sites)

    def calibrate(self, state: State, number: int, calibrator: Calibrator) -> Round:
        """Carry out a round of calibration."""
        total, sites = self._sum(state, CALIBRATION, number, state.average)
        state = self._after(calibrator.advance(state, number, total, len(sites)))
        return Round(number, {}, self.measured(state), sites)

    def measured(self, state: State) -> State:
        """Return the state with the sums that are due after its round, only to be kept."""
        for each in self.plan.owed(state):
            made = self._sum(state, each.name, state.round_number, state.average)
            state = self._after(self.plan.keeping(state, each.name, *made))
        return state

    def _started(self, state: State) -> State:
        total, sites = self._sum(state, STATISTICS, state.round_number + 1, state.weights)
        noise = self.plan.sum_plans[STATISTICS].deviation * math.sqrt(len(sites))
        weights = solve_statistics(total, state.weights, noise)
        started = self._after(replace(state, weights=weights))
        self.plan.keep(started)
        return started

    def _sum(
        self, state: State, kind: str, number: int, weights: Vector
    ) -> tuple[Vector, tuple[str, ...]]:
        """Return a sum over hospitals in the unit of its clip, and whose it is."""

        def keep(carried: Carried) -> None:
            self.plan.keep(replace(state, carried=carried.to_bytes()))

        plan = self.plan.sum_plans[kind]
        whole, sites = self.sums.sum(number, weights, kind, plan.length, keep)
        total = np.asarray(whole * plan.grid, dtype=np.float64)
        reaches = self.plan.reaches.get(kind)
        if reaches and not (np.abs(total) <= sum(reaches[site].largest for site in sites)).all():
            raise _spoiled(number, kind, sites)
        return total, sites

    def _after(self, state: State) -> State:
        return replace(state, carried=self.sums.carried.to_bytes())

    def close(self) -> None:
        """Exchange the last closing statements."""
        self.sums.close()


@dataclass
class UpdateRounds:
    """Modes local and none: every site's own update, combined.

    Who did not answer a round gets the next request too, but nobody waits for it.

    Attributes
    ----------
    refused : dict
        Sites of this round that sent no answer that can stand, and why.
    """

    plan: RunPlan
    ask: Ask
    away: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)

    def advance(self, state: State) -> Round:
        """Carry out the next round."""
        number = state.round_number + 1
        self.refused = {}
        updates = self._released(number, UPDATE, state.weights, state.weights.size)
        state = self.measured(self.plan.combiner.step(state, updates))
        return Round(number, updates, state, tuple(updates), self.refused)

    def calibrate(self, state: State, number: int, calibrator: Calibrator) -> Round:
        """Carry out a round of calibration."""
        self.refused = {}
        sums = self._released(number, CALIBRATION, state.average, ENTRIES)
        total = np.sum(list(sums.values()), axis=0)
        state = self.measured(calibrator.advance(state, number, total, len(sums)))
        return Round(number, {}, state, tuple(sums), self.refused)

    def measured(self, state: State) -> State:
        """Return the state with the sums that are due after its round, only to be kept."""
        for each in self.plan.owed(state):
            sums = self._released(state.round_number, each.name, state.average, each.length)
            total = np.sum(list(sums.values()), axis=0)
            state = self.plan.keeping(state, each.name, total, tuple(sums))
        return state

    def _released(
        self, number: int, kind: str, weights: Vector, length: int
    ) -> Mapping[str, Vector]:
        """Return what every answering site releases of this kind."""
        request = TrainRequest(self.plan.study_hash, self.plan.run_id, number, kind, weights)
        accepted, refused = accept(self.plan, request, self._ask_all(request), length)
        self.refused |= refused
        return accepted

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
    plan: RunPlan, request: TrainRequest, replies: Mapping[str, Release], length: int
) -> tuple[dict[str, Vector], dict[str, str]]:
    """Return the vectors of shape (length,) that answer exactly `request`, and why others do not.

    A vector that its site cannot have computed is no answer either: it would end the run of all.

    Raises
    ------
    RunError
        If fewer than `plan.fewest` sites answered; it names the silent and refusing sites.
    """
    updates: dict[str, Vector] = {}
    refused: dict[str, str] = {}
    for site, reply in replies.items():
        if not (
            isinstance(reply, PrivateUpdate)
            and (reply.study_hash, reply.run_id) == (plan.study_hash, plan.run_id)
            and (reply.round_number, reply.kind) == (request.round_number, request.kind)
            and reply.vector.shape == (length,)
        ):
            refused[site] = why(reply)
        elif not _is_within(plan, request, site, reply.vector):
            refused[site] = IMPLAUSIBLE
        else:
            updates[site] = reply.vector
    if len(updates) < plan.fewest:
        missing = [site for site in plan.node_of if site not in updates]
        reasons = [f"{site}: {refused.get(site, why(None))}" for site in missing]
        what = f"Round {request.round_number}"
        raise too_few_for(what, plan.fewest, len(updates), reasons)
    return updates, refused


def _is_within(plan: RunPlan, request: TrainRequest, site: str, vector: Vector) -> bool:
    """Say whether a site can have computed this; where no reach is known, whatever it is."""
    reach = plan.reaches.get(request.kind, {}).get(site)
    return reach is None or reach.holds(vector, request.weights)


def _spoiled(number: int, kind: str, sites: Sequence[str]) -> RunError:
    return RunError(
        Code.RUN_SPOILED,
        f"The sum of round {number} ({kind}) over {', '.join(sites)} is none that these hospitals "
        "can have computed; whose part is wrong cannot be told, since only the sum is seen.",
        "Ask them to check their nodes, then go on with `polyclinic server run resume`.",
    )


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
