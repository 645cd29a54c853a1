"""Optional logging of a finished simulation to MLflow, in local files only."""

from __future__ import annotations

from pathlib import Path

from polyclinic_common.errors import Code, SimulationError
from polyclinic_simulations.results import Cell, Result


def log_result(result: Result, folder: Path) -> None:
    """Log every cell as one MLflow run below `folder`/mlruns.

    Raises
    ------
    SimulationError
        If MLflow is not installed.
    """
    try:
        from mlflow.entities import Metric, Param  # noqa: PLC0415
        from mlflow.tracking import MlflowClient  # noqa: PLC0415
    except ModuleNotFoundError:
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "MLflow is not installed.",
            "Install the extra: pip install 'polyclinic[mlflow]'.",
        ) from None
    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    known = client.get_experiment_by_name(result.study)
    experiment = known.experiment_id if known else client.create_experiment(result.study)
    for cell in result.cells:
        run = client.create_run(experiment, run_name=_name(cell))
        metrics = [Metric(key, value, 0, 0) for key, value in _metrics(cell).items()]
        params = [Param(key, value) for key, value in _params(cell, result).items()]
        client.log_batch(run.info.run_id, metrics=metrics, params=params)
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
    return {key: value for key, value in found.items() if value is not None}
