"""What the inversion audit prints: attackers, then dosing rules."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from polyclinic_simulations.audit.genotypes import GENES
from polyclinic_simulations.audit.inversion_result import Figures, InversionResult
from polyclinic_simulations.report.console import PIPED_WIDTH


def print_inversion(result: InversionResult, folder: Path) -> None:
    """Print attackers, then dosing rules."""
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    synthetic = ", synthetic data" if result.synthetic else ""
    console.print(f"[bold]{result.study}{synthetic}[/]: {result.patients} patients under attack")
    for gene in GENES:
        console.print(_attacks(result, gene))
    console.print(_dose_errors(result))
    console.print(
        f"Mean ± standard error over {result.seeds} seeds; given away: over patients. Plot: "
        f"[bold]{folder / 'inversion.svg'}[/]",
        soft_wrap=True,
    )


def _attacks(result: InversionResult, gene: str) -> Table:
    table = Table(
        title=f"{gene.upper()} of {result.genotyped[gene]} patients",
        caption="Given away: how much likelier the true genotype is to models trained on a patient "
        "than to models that never saw him.",
    )
    table.add_column("attacker knows")
    for heading in (
        "right, training, %",
        "right, test, %",
        "AUC, training",
        "AUC, test",
        "given away, points",
    ):
        table.add_column(heading, justify="right")
    for attack in result.attacks:
        leak = attack.leak[gene]
        table.add_row(
            attack.name,
            _text(attack.figures("train", gene, "accuracy"), 100.0, 1),
            _text(attack.figures("test", gene, "accuracy"), 100.0, 1),
            _text(attack.figures("train", gene, "auc"), 1.0, 3),
            _text(attack.figures("test", gene, "auc"), 1.0, 3),
            _text((leak.mean, leak.error), 100.0, 3),
        )
    return table


def _dose_errors(result: InversionResult) -> Table:
    table = Table(title="Dose error of test patients")
    table.add_column("dosing rule")
    columns = (
        ("MAE, mg a week", "mae", 1.0, 2),
        ("within 20 %", "within_20", 100.0, 1),
        ("> 50 % too high, %", "far_above", 100.0, 1),
        ("> 50 % too low, %", "far_below", 100.0, 1),
    )
    for heading, *_ in columns:
        table.add_column(heading, justify="right")
    table.add_column("MAE, worst seed", justify="right")
    for name, errors in result.dose_errors.items():
        cells = [_text(result.dose_figures(name, key), k, d) for _, key, k, d in columns]
        table.add_row(name, *cells, f"{max(error.mae for error in errors):.2f}")
    return table


def _text(figures: Figures, factor: float, decimals: int) -> str:
    mean, error = figures
    if mean is None:
        return "–"
    shown = f"{round(factor * mean, decimals) + 0.0:.{decimals}f}".replace("-", "−")
    return shown if error is None else f"{shown} ± {factor * error:.{decimals}f}"
