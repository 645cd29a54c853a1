"""The coordinator: the rounds of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from polyclinic_common.errors import Code, RunError
from polyclinic_common.models.network import LARGEST_WEIGHT, Vector
from polyclinic_common.wire import PrivateUpdate, Refusal, TrainRequest
from polyclinic_server.combiner import Combiner
from polyclinic_server.flower import ask
from polyclinic_server.observers import Observer, Round
from polyclinic_server.optimizer import State


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
    """

    study_hash: str
    run_id: str
    node_of: Mapping[str, int]
    rounds: int
    combiner: Combiner
    fewest: int
    timeout_s: float = 600.0


def run_rounds(grid: Grid, plan: RunPlan, state: State, observers: Sequence[Observer]) -> State:
    """Run the remaining rounds and return the final state."""
    while state.round_number < plan.rounds:
        number = state.round_number + 1
        request = TrainRequest(plan.study_hash, plan.run_id, number, state.weights)
        replies = ask(grid, request, plan.node_of, plan.timeout_s)
        updates = accept(plan, request, replies)
        state = plan.combiner.step(state, updates)
        if not (np.abs(state.weights) <= LARGEST_WEIGHT).all():
            raise RunError(
                Code.RUN_DIVERGED,
                f"Training diverged in round {number}.",
                "Lower training.learning_rate in the study.",
            )
        for observer in observers:
            observer.after_round(Round(number, updates, state))
    return state


def accept(
    plan: RunPlan, request: TrainRequest, replies: Mapping[str, PrivateUpdate | Refusal]
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
        reasons = [
            f"{site}: {_why(replies.get(site))}" for site in plan.node_of if site not in updates
        ]
        raise RunError(
            Code.RUN_TOO_FEW_SITES,
            f"Round {request.round_number} has {len(updates)} answers, {plan.fewest} are needed "
            f"({'; '.join(reasons)}).",
            "Ask the sites named; a silent site may be offline.",
        )
    return updates


def _why(reply: PrivateUpdate | Refusal | None) -> str:
    if reply is None:
        return "silent"
    return reply.reason.value if isinstance(reply, Refusal) else "wrong answer"


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
