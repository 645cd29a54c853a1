"""What a person sees in the terminal: a progress bar, then tables."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from polyclinic_simulations.results import METRICS, Cell, Result, Scores, mean_and_error

NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "within_20": "within 20 %",
    "accuracy": "accuracy",
    "auc": "AUC",
    "brier": "Brier",
    "c_index": "C-index",
}
BASELINES = {
    "trivial": "same prediction for everybody",
    "local_only_private": "each hospital alone, same privacy",
    "local_only_non_private": "each hospital alone, no privacy",
    "pooled_same_trainer": "data pooled, no privacy, same trainer",
    "pooled_converged": "data pooled, no privacy, converged",
    "cox": "data pooled, no privacy, Cox model",
    "published": "published formula",
}
PIPED_WIDTH = 140


class RichWatcher:
    """A progress bar with the time left, on standard error."""

    def __init__(self, *, quiet: bool):
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._progress.add_task("reading data", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, units: float) -> None:
        """Show how much work is left."""
        self._progress.update(self._task, total=units, description="training")

    def advance(self, units: float) -> None:
        """Move the bar."""
        self._progress.advance(self._task, units)


def print_result(result: Result, folder: Path) -> None:
    """Print one table: settings and baselines, all test patients and the mean of the sites."""
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    metrics = [m for m in METRICS if any(c.test.overall[m] is not None for c in result.cells)]
    table = Table(title=f"{result.study}: exact scores on test patients, mean ± standard error")
    table.add_column("model")
    for metric in metrics:
        table.add_column(NAMES[metric], justify="right")
    table.add_column(f"{NAMES[result.main_metric]}, mean of sites", justify="right")
    for label, cells in result.settings().items():
        name = f"[bold]federated, {label}[/]"
        _add_row(table, name, [cell.test for cell in cells], metrics, result.main_metric)
        if cells[0].baselines.local_only_private is not None:
            _add_baseline(table, "local_only_private", cells, metrics, result.main_metric)
    table.add_section()
    last = list(result.settings().values())[-1]
    for key in BASELINES:
        if key != "local_only_private":
            _add_baseline(table, key, last, metrics, result.main_metric)
    console.print(table)
    for cell in {cell.label: cell for cell in result.cells}.values():
        if cell.privacy.epsilon is not None:
            spent = cell.privacy
            console.print(
                f"{cell.label}: every patient is promised ε = {spent.epsilon:.3f}, "
                f"δ = {spent.delta:g}; unit: {spent.unit}; adjacency: {spent.adjacency}."
            )
    console.print(f"Report with plots: [bold]{folder / 'report.html'}[/]", soft_wrap=True)


def _add_baseline(table: Table, key: str, cells: list[Cell], metrics: list[str], main: str) -> None:
    scores = [getattr(cell.baselines, key) for cell in cells]
    if all(score is not None for score in scores):
        name = f"  {BASELINES[key]}" if key == "local_only_private" else BASELINES[key]
        _add_row(table, name, scores, metrics, main)


def _add_row(table: Table, name: str, scores: list[Scores], metrics: list[str], main: str) -> None:
    row = [_words([score.overall[metric] for score in scores]) for metric in metrics]
    table.add_row(name, *row, _words([score.mean_of_sites(main) for score in scores]))


def _words(values: list[float | None]) -> str:
    mean, error = mean_and_error(values)
    if mean is None:
        return "–"
    return f"{mean:.3f}" if error is None else f"{mean:.3f} ± {error:.3f}"
