"""The process of one run: loads its folder, goes through the rounds, writes down where it stands.

The server starts it with its orders on standard input, and it ends when that is closed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.serverapp import Grid
from pydantic import BaseModel

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.holdout import declared_for_training
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.vectors import save_model
from polyclinic_common.releases.kinds import METRICS
from polyclinic_common.releases.plans import NODE_PATH
from polyclinic_common.releases.schedule import Schedule
from polyclinic_server.rounds.coordinator import run_rounds
from polyclinic_server.rounds.metric_sums import MetricReader
from polyclinic_server.rounds.observers import Checkpoint, Round
from polyclinic_server.rounds.plan import RunPlan, make_plan, reaches_of
from polyclinic_server.rounds.state import State
from polyclinic_server.runs.folder import Event, RunDescription, RunFolder
from polyclinic_server.runs.quality import Quality


class Orders(BaseModel):
    """What the server tells the process of a run."""

    folder: Path
    address: str
    token: str
    nodes: dict[str, int]


@dataclass
class Chronicle:
    """Writes down what happens, and ends a run that is to stop."""

    folder: RunFolder
    rounds: int
    began: float = field(default_factory=time.monotonic)
    waiting_for: dict[str, str] = field(default_factory=dict)

    def after_round(self, finished: Round) -> None:
        """Write the round down."""
        now = time.monotonic()
        self.folder.note(
            Event(
                at=time.time(),
                what="round",
                round=finished.number,
                rounds=self.rounds,
                sites=finished.sites,
                refused=dict(finished.refused),
                seconds=round(now - self.began, 3),
            )
        )
        self.began, self.waiting_for = now, {}
        if finished.number < self.rounds:
            self.folder.check_stop()

    def watch(self, what: str, waiting_for: Mapping[str, str]) -> None:
        """Write down who is waited for, when that changes."""
        if waiting_for != self.waiting_for:
            self.waiting_for = dict(waiting_for)
            event = Event(at=time.time(), what="waiting", text=what, waiting_for=self.waiting_for)
            self.folder.note(event)
        self.folder.check_stop()


def coordinate(grid: Grid, folder: RunFolder, nodes: Mapping[str, int]) -> None:
    """Carry a run to its end, from where its checkpoint stands."""
    description = folder.description()
    plan, state = plan_of(description, nodes)
    checkpoint = Checkpoint(folder.checkpoint, description.run)
    state = checkpoint.load() or state
    rounds = description.parsed_study.rounds
    chronicle = Chronicle(folder, rounds)
    plan = replace(plan, watch=chronicle.watch, keep=checkpoint.write)
    folder.note(Event(at=time.time(), what="started", round=state.round_number, rounds=rounds))
    state = run_rounds(grid, plan, state, [checkpoint, chronicle])
    known = None if state.calibrated is None else state.calibrated.level_and_slope
    save_model(folder.model, description.parsed_study, state.average, known)
    Quality.of(plan.evaluation, state).write(folder.path)
    folder.note(Event(at=time.time(), what="finished", round=state.round_number))


def plan_of(description: RunDescription, nodes: Mapping[str, int]) -> tuple[RunPlan, State]:
    """Return the plan of a run and the state before its first round."""
    study = description.parsed_study
    declared = {
        name: declared_for_training(study, site.declared)
        for name, site in description.sites.items()
    }
    start = initial_weights(study, Encoding(study), description.seed)
    sums = Schedule.of(study, description.largest).secure_sums
    sizes = {name: site.declared for name, site in description.sites.items()}
    plan = make_plan(
        study,
        description.run,
        nodes,
        declared,
        start,
        sums,
        study.privacy.epsilon,
        description.fewest,
        description.patience_s,
        evaluation_of(description),
        reaches=reaches_of(study, sums, sizes, declared, NODE_PATH),
    )
    identities = {name: bytes.fromhex(site.identity) for name, site in description.sites.items()}
    return replace(plan, identities=identities), State.start(start)


def evaluation_of(description: RunDescription) -> MetricReader | None:
    """Return how metrics are asked for and read, if the study releases any."""
    study = description.parsed_study
    if not study.metric_rounds:
        return None
    declared = {name: site.declared for name, site in description.sites.items()}
    plan = Schedule.of(study, description.largest).plan(METRICS)
    return MetricReader.of(study, plan, declared)


def main() -> None:
    """Take orders and carry them out."""
    from polyclinic_server.superlink.flower_link import task_grid  # noqa: PLC0415  (seconds)

    orders = Orders.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_server, daemon=True).start()
    folder = RunFolder(orders.folder)
    try:
        with folder.alone(), task_grid(orders.address, orders.token) as grid:
            try:
                coordinate(grid, folder, orders.nodes)
            except PolyclinicError as error:
                folder.note_end(error)
                raise
    except PolyclinicError as error:
        sys.exit(error.exit_status)


def _end_with_server() -> None:
    """Wait until the server is gone; whatever was going on then is in the checkpoint or lost."""
    while os.read(sys.stdin.fileno(), 1):  # no lock is held that the end of the process wants
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
