"""What watches a run: progress, history and checkpoints hang on the rounds as observers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from polyclinic_common.errors import Code, ModelError, RunError
from polyclinic_common.models.score_head import Vector
from polyclinic_common.models.vectors import load_vectors, save_vectors
from polyclinic_server.rounds.state import Calibrated, KeptSum, State


@dataclass(frozen=True)
class Round:
    """A finished round.

    Attributes
    ----------
    number : int
        Its number.
    updates : mapping
        Every answering site's update; empty in mode secure-sum, where the server sees none.
    state : State
        The state after it.
    sites : tuple of str
        The sites whose releases are in it.
    refused : mapping
        Sites whose answers are not, and why.
    """

    number: int
    updates: Mapping[str, Vector]
    state: State
    sites: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Observer(Protocol):
    """Told after every round; it cannot change the run."""

    def after_round(self, finished: Round) -> None:
        """Take note of a finished round."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """Writes the state after every round, whole or not at all, so that a run can go on."""

    path: Path
    run_id: str

    def after_round(self, finished: Round) -> None:
        """Write the state."""
        self.write(finished.state)

    def write(self, state: State) -> None:
        """Write a state; when this returns, it is what `load` gives."""
        vectors = {
            "weights": state.weights,
            "velocity": state.velocity,
            "average": state.average,
            "round_number": np.array([float(state.round_number)]),
        }
        vectors |= {f"metrics {index}": said.total for index, said in enumerate(state.released)}
        vectors |= {
            f"profile {index}": said.profile
            for index, said in enumerate(state.released)
            if said.profile is not None
        }
        if state.candidates:
            vectors["candidates"] = np.stack(state.candidates)
        if state.calibrated is not None:
            known = state.calibrated
            vectors |= {"frozen": known.frozen, "mean": known.mean, "precision": known.precision}
        released = [[said.round_number, list(said.sites), said.kind] for said in state.released]
        header = {"run_id": self.run_id, "carried": state.carried.hex()}
        header["released"] = json.dumps(released)
        save_vectors(self.path, vectors, header)

    def load(self) -> State | None:
        """Return the last state written by this run, or None where there is none.

        Raises
        ------
        RunError
            If the file is damaged or belongs to another run.
        """
        if not self.path.exists():
            return None
        try:
            vectors, header = load_vectors(self.path)
            if header["run_id"] != self.run_id:
                raise KeyError("run_id")
            return State(
                int(vectors["round_number"][0]),
                vectors["weights"],
                vectors["velocity"],
                vectors["average"],
                bytes.fromhex(header["carried"]),
                tuple(
                    KeptSum(
                        number,
                        vectors[f"metrics {index}"],
                        tuple(sites),
                        vectors.get(f"profile {index}"),
                        *kind,  # absent in earlier checkpoints: metrics
                    )
                    for index, (number, sites, *kind) in enumerate(json.loads(header["released"]))
                ),
                candidates=tuple(vectors.get("candidates", ())),
                calibrated=Calibrated(vectors["frozen"], vectors["mean"], vectors["precision"])
                if "frozen" in vectors
                else None,
            )
        except (ModelError, KeyError, ValueError) as error:
            raise RunError(
                Code.RUN_CHECKPOINT,
                f"The checkpoint {self.path.name} is damaged or belongs to another run.",
                "Delete it to start the run again.",
            ) from error
