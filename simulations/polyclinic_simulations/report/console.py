"""What a person sees in the terminal: a progress bar, then tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from polyclinic_common.study.manifest import Study
from polyclinic_common.study.plain_words import hospitals_in_words
from polyclinic_simulations.report.calibration_words import warning
from polyclinic_simulations.report.comparison import Comparison, Line, compare
from polyclinic_simulations.report.measures import Measure, measure_of, measures_of
from polyclinic_simulations.report.private_view import (
    MenuRow,
    PrivateRow,
    budget_words,
    menu_rows,
    menu_words,
    private_rows,
    verdict_words,
)
from polyclinic_simulations.report.verdicts import nobody_words, verdicts
from polyclinic_simulations.report.words import spread_words
from polyclinic_simulations.results.results import Result, SumSpent

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
        self._task = self._progress.add_task("starting", total=None)

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


def print_result(study: Study, result: Result, folder: Path) -> None:
    """Print settings and baselines: all test patients, and the mean of the hospitals."""
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    comparison = compare(study, result)
    if comparison is None:
        return
    synthetic = ", synthetic data" if study.synthetic else ""
    table = Table(
        title=f"{study.id}{synthetic}: exact test scores, mean ± standard error; ε promised"
    )
    metrics = measures_of(study, result.main_metric)
    main = metrics[0]
    table.add_column("model")
    for measure in metrics:
        table.add_column(measure.heading, justify="right")
    table.add_column(f"{main.heading}, mean of hospitals", justify="right")

    def add(line: Line) -> None:
        cells = [measure.text(line.overall(measure.key)) for measure in metrics]
        table.add_row(line.label, *cells, main.text(line.mean_of_sites(main.key)))

    for line in comparison.settings:
        add(line)
    table.add_section()
    for line in comparison.baselines:
        add(line)
    console.print(table)
    _print_held_out(console, study)
    _print_comparison(console, study, comparison, metrics)
    _print_menu(console, study, comparison.settings)
    private = private_rows(study, comparison.private)
    if private:
        console.print(private_table(study, private))
    for line in comparison.private:
        _print_promise(console, line)
    _print_start(console, result)
    console.print(f"Report with plots: [bold]{folder / 'report.html'}[/]", soft_wrap=True)


def _print_held_out(console: Console, study: Study) -> None:
    """Count the hospitals that train, where others are held out as a whole."""
    if study.evaluation.holdout.kind == "sites":
        console.print(hospitals_in_words(study), soft_wrap=True)


def _print_start(console: Console, result: Result) -> None:
    """Print what training started from, and which columns did not meet."""
    if result.warm_start is None:
        return
    console.print(
        f"Started from {result.warm_start}. If that was fitted on these patients, it is "
        "outside the guarantee.",
        soft_wrap=True,
    )
    for line in result.warm_start_columns:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _print_comparison(
    console: Console, study: Study, comparison: Comparison, measures: Sequence[Measure]
) -> None:
    """Print what ± means, how the headline compares, and a warning where calibration is off."""
    head, main = comparison.headline, measures[0]
    said = [
        spread_words(study, head, main),
        nobody_words(comparison, measures),
        *verdicts(comparison, main),
        warning(study, comparison),
    ]
    for words in filter(None, said):
        console.print(escape(words), soft_wrap=True, highlight=False)


def _print_menu(console: Console, study: Study, lines: Sequence[Line]) -> None:
    """Print the settings of the menu, and what choosing among them cost."""
    if rows := menu_rows(study, lines):
        console.print(menu_table(study, rows))
        console.print(" ".join(menu_words(study, lines)), soft_wrap=True)


def _print_promise(console: Console, line: Line) -> None:
    """Print how the hospitals voted, what every patient was promised, and what was spent."""
    if words := verdict_words(line):
        console.print(f"{line.label}: {words}", soft_wrap=True)
    spent = line.spent
    console.print(
        f"{line.label}: {budget_words(line)}, δ = {spent.delta:g}; "
        f"unit: {spent.unit}; adjacency: {spent.adjacency}; "
        f"accountant: {spent.accountant}{_prv(spent.epsilon_prv)}.{_sums(spent.sums)}",
        soft_wrap=True,
    )


def private_table(study: Study, rows: Sequence[PrivateRow]) -> Table:
    """Return the charged metrics with their intervals, and the exact ones beside them."""
    table = Table(
        title=f"{study.id}: private metrics at the end, with 95 % intervals (beside them exact, "
        "which only a simulation can know)"
    )
    for heading in ("model", "patients", "metric", "private", "exact"):
        table.add_column(heading, justify="right" if heading in {"private", "exact"} else "left")
    for row in rows:
        table.add_row(row.model, row.group, row.metric, row.private, row.exact)
    return table


def menu_table(study: Study, rows: Sequence[MenuRow]) -> Table:
    """Return the settings of the menu, and which one was kept."""
    heading = measure_of(study, study.deciding_metric).heading
    table = Table(title=f"{study.id}: the menu, by {heading} with 95 % intervals")
    for column in ("model", "trained with", "private", "exact", "chosen"):
        table.add_column(column, justify="right" if column in {"private", "exact"} else "left")
    for row in rows:
        table.add_row(row.model, row.setting, row.private, row.exact, row.chosen)
    return table


def _prv(epsilon: float | None) -> str:
    return "" if epsilon is None else f" (for information, PRV: ε = {epsilon:.3f})"


def _sums(sums: SumSpent | None) -> str:
    if sums is None:
        return ""
    return (
        f" Headline if at most {sums.c} of {sums.hospitals} hospitals collude; at fallback "
        f"ε = {sums.epsilon_fallback:.3f} was spent; {sums.verified} hospitals know each other's "
        "keys."
    )
