"""Optional logging of a finished simulation to MLflow: one local SQLite file, no server."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path

from polyclinic_common.errors import Code, SimulationError
from polyclinic_simulations.results.results import Cell, Result

CELL = "polyclinic.cell"


def refuse_absent() -> None:
    """Refuse to log where MLflow is not installed.

    Raises
    ------
    SimulationError
        If MLflow is not installed.
    """
    if find_spec("mlflow") is None:
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "MLflow is not installed.",
            "Install the extra: pip install 'polyclinic[mlflow]'.",
        )


def log_result(result: Result, folder: Path) -> None:
    """Log every cell that is new as one MLflow run, in the SQLite file `folder`/mlflow.db.

    Raises
    ------
    SimulationError
        If MLflow is not installed.
    """
    refuse_absent()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    known = client.get_experiment_by_name(result.study)
    experiment = known.experiment_id if known else client.create_experiment(result.study)
    for cell in result.cells:
        content = hashlib.sha256(cell.model_dump_json().encode()).hexdigest()
        if client.search_runs([experiment], f"tags.`{CELL}` = '{content}'", max_results=1):
            continue
        run = client.create_run(experiment, run_name=_name(cell))
        metrics = [Metric(key, value, 0, 0) for key, value in _metrics(cell).items()]
        params = [Param(key, value) for key, value in _params(cell, result).items()]
        tags = [RunTag(CELL, content)]
        client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=tags)
        client.set_terminated(run.info.run_id)


def _name(cell: Cell) -> str:
    return f"{cell.mode} {cell.epsilon} {cell.strategy} seed {cell.seed}"


def _params(cell: Cell, result: Result) -> dict[str, str]:
    named = ("mode", "epsilon", "strategy", "sites", "drop", "seed", "engine", "gradients")
    return {name: str(getattr(cell, name)) for name in named} | {"study_hash": result.study_hash}


def _metrics(cell: Cell) -> dict[str, float]:
    found = {f"test_{key}": value for key, value in cell.test.overall.items()}
    pooled = cell.baselines.pooled_converged.overall
    found |= {f"pooled_converged_{key}": value for key, value in pooled.items()}
    found |= {
        "epsilon_promised": cell.privacy.epsilon_promised,
        "epsilon_spent": cell.privacy.epsilon,
    }
    return {key: value for key, value in found.items() if value is not None}
