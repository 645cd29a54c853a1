"""Heavy libraries are imported by what uses them: a command, or a simulation, starts without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table

PLOTS = {"matplotlib", "lifelines", "jinja2"}
TORCH = {"torch", "opacus"}
TABLES = {"pandas", "pyarrow", "scipy.stats"}
ELSEWHERE = {"ray", "sqlalchemy", "alembic", "mlflow", "uvicorn"}
ALL = {*PLOTS, *TORCH, *TABLES, *ELSEWHERE}

COMMANDS = "numpy", "scipy", "flwr", "grpc", "cryptography"
HELP = """
from polyclinic_common.cli.main import main
sys.argv = ["polyclinic", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
"""
NEEDED = "import polyclinic_simulations.bench.federated"
JOB = """
from polyclinic_simulations.bench import federated
from polyclinic_simulations.bench.size import Size
size = Size(sites=2, patients=40, columns=4, hidden=(3,), rounds=1, batch=16)
federated.train(federated.made_up_federation(size), "fast", "inline")
"""
SIMULATION = """
from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table
simulate(small_study(), small_table(), modes=["local"], out={out!r})
"""


def imported(code: str) -> set[str]:
    """Return what a process has imported after this."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nsys.stderr.write(repr(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {word.strip("'[], ") for word in done.stderr.splitlines()[-1].split(", ")}


@pytest.mark.parametrize("words", [["--help"], ["simulate", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    found = imported(HELP.format(words=words))
    assert "polyclinic_common.cli.main" in found
    assert not found & {*ALL, *COMMANDS}


def test_what_a_closed_form_job_needs_imports_no_more() -> None:
    found = imported(NEEDED)
    assert "polyclinic_simulations.federation.training" in found
    assert not found & {*ALL, "scipy.optimize", "scipy.linalg"}


def test_a_closed_form_job_is_done_without_torch_tables_and_plots() -> None:
    found = imported(JOB)
    assert "polyclinic_client.compute.local_releases" in found
    assert not found & ALL


@pytest.mark.slow
def test_runs_beside_finished_baselines_import_no_torch(tmp_path: Path) -> None:
    simulate(small_study(), small_table(), modes=["none"], out=tmp_path)
    found = imported(SIMULATION.format(out=str(tmp_path)))
    assert "polyclinic_simulations.sweep.cells" in found
    assert not found & {*TORCH, "ray", "sqlalchemy"}
