"""Both engines give the same numbers, and Ray is gone afterwards.

Starting Ray and importing torch in its workers takes most of the time, so that one start serves
several federations.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from typer.testing import CliRunner

from polyclinic_client.run.flower_app import make_client_app
from polyclinic_client.run.refusals import SilenceError
from polyclinic_common.errors import RunError, SimulationError
from polyclinic_common.wire import TrainRequest, decode_request
from polyclinic_server.rounds.coordinator import run_rounds
from polyclinic_server.rounds.observers import Round
from polyclinic_server.rounds.state import State
from polyclinic_simulations import simulate
from polyclinic_simulations.cli.simulate import app as simulate_command
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.engines import ENGINES, Engine
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import PlainSites, run_plan, start_weights
from tests.kits.noise import NoNoise
from tests.kits.small import small_study, small_table, write_study

SITES = 3
SAMPLED: dict[str, Any] = {"rounds": 4, "schedule": "sampled", "batch": 16, "strategy": "fedavg"}


@dataclass(frozen=True)
class Case:
    """One federation of several in one simulation."""

    federation: Federation
    setting: Setting

    @classmethod
    def of(cls, mode: str, epsilon: float | None = None, **training: Any) -> Case:
        setting = Setting(mode, epsilon, training.get("strategy", "descent"))
        study = setting.apply(small_study(training={"rounds": 6} | training))
        return cls(build_federation(study, small_table(), seed=0), setting)

    @property
    def start(self) -> State:
        return State.start(start_weights(self.federation))

    def sites(self, folder: Path) -> Hospitals | PlainSites:
        """Return this federation's sites, with their folders made where they keep ledgers."""
        trainer = Trainer(noise=NoNoise)
        if self.setting.epsilon is None:
            return PlainSites(self.federation, trainer)
        made = Hospitals(self.federation, self.setting, "run", trainer, folder)
        made.found()
        return made


def cases() -> list[Case]:
    return [
        Case.of("none"),
        Case.of("none", **SAMPLED),
        Case.of("local", 1.0),
        Case.of("none", **SAMPLED, personalisation="mr-mtl", pull=0.1),
        Case.of("secure-sum", 1.0),
    ]


CRASHING = SITES * len(cases())
"""Partition of the site that crashes: the one after the last federation's."""


def hospitals(all_sites: list[Hospitals | PlainSites]) -> ClientApp:
    """Three partitions a federation, and one that crashes; one site misses one round."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number, index = divmod(int(context.node_config["partition-id"]), SITES)
        if number == len(all_sites):
            raise ZeroDivisionError("patient 17")
        request = decode_request(message.content)
        round_number = request.round_number if isinstance(request, TrainRequest) else 0
        if (number, index, round_number) == (0, 1, 3):
            raise SilenceError
        site = all_sites[number].site(index)
        return make_client_app(lambda _: site)(message, context)

    return app


@dataclass
class Answering:
    """An observer that keeps who answered every round."""

    sites: list[int] = field(default_factory=list)

    def after_round(self, finished: Round) -> None:
        self.sites.append(len(finished.sites))


def train_all(engine: Engine, folder: Path, *, crash: bool) -> list[State]:
    """Train every case in one simulation; at its end one more site may crash."""
    all_cases, finished = cases(), list[State]()
    all_sites = [case.sites(folder / str(number)) for number, case in enumerate(all_cases)]
    server = ServerApp()

    @server.main()
    def main(grid: Grid, _: Context) -> None:
        nodes = engine.nodes_in_order(grid)
        for number, case in enumerate(all_cases):
            own, answering = nodes[SITES * number :][:SITES], Answering()
            names = [f"site {i}" for i in range(SITES)]
            finished.append(rounds_of(grid, number, case, names, own, [answering]))
            missed = [3, 3, 2, 3, 3, 3] if number == 0 else [3] * len(answering.sites)
            assert answering.sites == missed
        if crash:
            rounds_of(grid, 0, all_cases[0], ["crashing"], nodes[CRASHING:], [])

    def rounds_of(
        grid: Grid,
        number: int,
        case: Case,
        names: list[str],
        nodes: list[int],
        observers: list[Answering],
    ) -> State:
        node_of = dict(zip(names, nodes, strict=True))
        sites = all_sites[number]
        sums = sites.sum_plans if isinstance(sites, Hospitals) else {}
        plan = run_plan(case.federation, case.setting, "run", node_of, engine.timeout_s, sums)
        plan = replace(plan, identities=getattr(sites, "identities", {}))
        return run_rounds(grid, plan, case.start, observers)

    if not crash:
        engine.run(server, hospitals(all_sites), CRASHING + 1)
        return finished
    with pytest.raises(RunError) as caught:
        engine.run(server, hospitals(all_sites), CRASHING + 1)
    assert caught.value.code == "R001"
    assert "crashing: silent" in caught.value.what
    assert "patient" not in caught.value.what
    return finished


def left_of_ray() -> list[str]:
    """Return the processes that carry the token of this process's Ray."""
    token = f"RAY_AUTH_TOKEN={os.environ['RAY_AUTH_TOKEN']}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if token in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().decode())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def assert_ray_is_gone() -> None:
    deadline = time.monotonic() + 20
    while (left := left_of_ray()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_both_engines_agree_and_a_failed_run_leaves_nothing(
    ray_scratch: Path, tmp_path: Path
) -> None:
    inline = train_all(ENGINES["inline"], tmp_path / "inline", crash=False)
    over_ray = train_all(ENGINES["ray"], tmp_path / "ray", crash=True)
    assert len(inline) == len(over_ray) == len(cases())
    for one, other in zip(inline, over_ray, strict=True):
        assert one.round_number == other.round_number
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(other.average, one.average, rtol=1e-12, atol=1e-12)
    assert_ray_is_gone()
    assert not list(ray_scratch.iterdir())


@pytest.mark.usefixtures("ray_scratch")
def test_the_command_runs_over_ray(tmp_path: Path) -> None:
    study, table = write_study(tmp_path)
    errors = []
    for engine in ("inline", "ray"):
        out = tmp_path / engine
        words = f"{study} --data {table} --mode none --engine {engine} --out {out}".split()
        done = CliRunner().invoke(simulate_command, words)
        assert done.exit_code == 0, done.output
        (cell,) = json.loads((out / "result.json").read_text())["cells"]
        assert cell["engine"] == engine
        errors.append(cell["test"]["overall"]["mae"])
    assert errors[0] == pytest.approx(errors[1], rel=1e-12)
    assert_ray_is_gone()


def test_ray_is_imported_by_a_run_alone() -> None:
    code = "import polyclinic_simulations.engines, sys; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_ray_the_engine_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SimulationError) as caught:
        simulate(small_study(), small_table(), engine="ray")
    assert caught.value.code == "X003"
    assert "polyclinic[ray]" in caught.value.remedy
    with pytest.raises(SimulationError):
        simulate(small_study(), small_table(), engine="steam")
