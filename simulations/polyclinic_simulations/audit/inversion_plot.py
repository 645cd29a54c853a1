"""One plot: what is guessed, of whom, and what the dose error is, by epsilon."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polyclinic_simulations.audit.inversion import (
    ANCESTRY,
    FORMULA,
    LEAFLET,
    model_name,
)
from polyclinic_simulations.audit.inversion_result import (
    Attack,
    Figures,
    InversionResult,
    Measure,
    Patients,
)
from polyclinic_simulations.report.drawing import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    NO_METADATA,
    ORANGE,
    VERMILION,
    style,
)

SIZE = (9.0, 6.6)
LINES = {
    ANCESTRY: (MUTED, ":"),
    LEAFLET: (ORANGE, "-."),
    FORMULA: (GREEN, "--"),
}
RULES = {
    "fixed 35 mg": (MUTED, ":"),
    "clinical formula": (ORANGE, "-."),
    "pharmacogenetic formula": (GREEN, "--"),
}


def draw(result: InversionResult) -> bytes:
    """Return the plot as SVG."""
    with style():
        text = io.BytesIO()
        make_figure(result).savefig(text, format="svg", metadata=NO_METADATA)
        return text.getvalue()


def make_figure(result: InversionResult) -> Figure:
    """Return the plot: the guesses of both genes, what is given away, dose errors."""
    figure = Figure(figsize=SIZE, layout="constrained")
    (vkorc1, cyp2c9), (leaks, doses) = figure.subplots(2, 2)
    attacks = [result.attack(model_name(epsilon)) for epsilon in [*result.epsilons, None]]
    _success(vkorc1, result, attacks, "vkorc1", "accuracy")
    _success(cyp2c9, result, attacks, "cyp2c9", "auc")
    _leaks(leaks, attacks)
    _doses(doses, result)
    for axes in (vkorc1, cyp2c9, leaks, doses):
        _budgets(axes, result.epsilons)
    handles, labels = vkorc1.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    synthetic = ", synthetic patients" if result.synthetic else ""
    words = f"{result.study}{synthetic}: mean of {result.seeds} seeds, bars two standard errors"
    figure.supxlabel(words, fontsize=8.5)
    return figure


def _success(
    axes: Axes, result: InversionResult, attacks: Sequence[Attack], gene: str, measure: Measure
) -> None:
    factor = 100.0 if measure == "accuracy" else 1.0
    for name, (colour, dash) in LINES.items():
        mean, _ = result.attack(name).figures("test", gene, measure)
        axes.axhline(factor * (mean or 0.0), color=colour, linestyle=dash, label=name)
    drawn: tuple[tuple[Patients, str, float], ...] = (
        ("train", VERMILION, -0.08),
        ("test", BLUE, 0.08),
    )
    for patients, colour, shift in drawn:
        found = [attack.figures(patients, gene, measure) for attack in attacks]
        words = "its own training patients" if patients == "train" else "patients it never saw"
        _points(axes, found, factor, colour, f"with the released model: {words}", shift)
    name = gene.upper()
    axes.set_ylabel(
        f"{name} guessed right (%)" if measure == "accuracy" else f"{name} carriers ranked (AUC)"
    )
    axes.set_title(f"Guessing {name}", loc="left")


def _leaks(axes: Axes, attacks: Sequence[Attack]) -> None:
    axes.axhline(0.0, color=INK, linewidth=0.8)
    for gene, colour, shift in (("vkorc1", BLUE, -0.08), ("cyp2c9", ORANGE, 0.08)):
        found = [(attack.leak[gene].mean, attack.leak[gene].error) for attack in attacks]
        _points(axes, found, 100.0, colour, gene.upper(), shift)
    low, high = axes.get_ylim()
    reach = max(0.1, abs(low), abs(high))
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("percentage points")
    axes.set_title("What the model gives away about its own patients", loc="left")
    axes.legend(loc="upper right")


def _doses(axes: Axes, result: InversionResult) -> None:
    for name, (colour, dash) in RULES.items():
        mean, _ = result.dose_figures(name, "mae")
        axes.axhline(mean or 0.0, color=colour, linestyle=dash, label=name)
    names = [model_name(epsilon) for epsilon in [*result.epsilons, None]]
    found = [result.dose_figures(name, "mae") for name in names]
    _points(axes, found, 1.0, BLUE, "released model", 0.0)
    worst = [max(error.mae for error in result.dose_errors[name]) for name in names]
    axes.plot(range(len(names)), worst, "v", color=BLUE, fillstyle="none", label="its worst seed")
    axes.set_ylabel("mean error of the dose (mg a week)")
    axes.set_title("Dose error of patients it never saw", loc="left")
    axes.set_ylim(top=1.12 * axes.get_ylim()[1])
    axes.legend(loc="upper right", ncols=2)


def _points(
    axes: Axes, found: Sequence[Figures], factor: float, colour: str, label: str, shift: float
) -> None:
    """Draw means with bars of two standard errors; `shift` keeps series apart."""
    places = [place + shift for place in range(len(found))]
    means = [factor * (mean if mean is not None else float("nan")) for mean, _ in found]
    bars = [2.0 * factor * (error or 0.0) for _, error in found]
    axes.errorbar(places, means, yerr=bars, fmt="o", color=colour, label=label, capsize=2.5)


def _budgets(axes: Axes, epsilons: Sequence[float]) -> None:
    labels = [f"{epsilon:g}" for epsilon in epsilons] + ["none"]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("ε of the released model")
