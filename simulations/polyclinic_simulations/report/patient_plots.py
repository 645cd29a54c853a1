"""Plots of patients in aggregate: how many, calibration, prediction against truth, survival."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival
from polyclinic_simulations.report.calibration import miss_words, pool_bins
from polyclinic_simulations.report.comparison import Comparison, Line
from polyclinic_simulations.report.drawing import (
    BLUE,
    DASHES,
    GREEN,
    INK,
    MARKERS,
    ORANGE,
    VERMILION,
    Plot,
    blank,
    finish,
    legend_above,
    look,
    row_labels,
)
from polyclinic_simulations.results.results import Cell, SiteSummary

COUNT_MARKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
RISK_COLOURS = (GREEN, ORANGE, VERMILION, BLUE, INK)


def sites_plot(sites: Sequence[SiteSummary]) -> Plot | None:
    """Show training and test patients of every site as bars."""
    if not sites:
        return None
    figure, axes = blank(0.95 + 0.2 * len(sites))
    rows = range(len(sites))
    train, test = [site.train for site in sites], [site.test for site in sites]
    axes.barh(rows, train, 0.7, color=BLUE, label="training")
    axes.barh(rows, test, 0.7, left=train, color=ORANGE, label="test")
    row_labels(axes, rows, [site.name for site in sites])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("patients")
    legend_above(axes)
    sizes = [site.train + site.test for site in sites]
    return finish(
        figure,
        "sites",
        f"Bar plot of patients at each of {len(sites)} hospitals, from {min(sizes)} to "
        f"{max(sizes)}.",
        f"Patients at each hospital: {min(sizes)} at the smallest, {max(sizes)} at the largest.",
    )


def calibration_plot(study: Study, comparison: Comparison) -> Plot | None:
    """Show mean predicted against mean observed, for the headline and without privacy."""
    chosen = [comparison.headline]
    if comparison.open is not None and comparison.open is not comparison.headline:
        chosen.append(comparison.open)
    series = [(line, pool_bins(line.cells)) for line in chosen]
    series = [(line, bins) for line, bins in series if bins]
    if not series:
        return None
    figure, axes = blank(3.9)
    for (line, bins), dash in zip(series, DASHES, strict=False):
        colour, marker = look(line.mode)
        predicted, observed = [b.predicted for b in bins], [b.observed for b in bins]
        axes.plot(predicted, observed, dash, marker=marker, color=colour, label=line.label)
    ends = [end for _, bins in series for b in bins for end in (b.predicted, b.observed)]
    pad = 0.05 * (max(ends) - min(ends) or 1.0)
    low, high = min(ends) - pad, max(ends) + pad
    axes.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=":", label="ideal")
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_anchor("W")
    what = _calibrated(study)
    axis = what if isinstance(study.outcome, Continuous) else "share of patients"
    axes.set_xlabel(f"predicted {axis}")
    axes.set_ylabel(f"observed {axis}")
    legend_above(axes)
    misses = "; ".join(f"{line.label}: {miss_words(study, bins)}" for line, bins in series)
    return finish(
        figure,
        "calibration",
        f"Calibration: predicted against observed {what}. Mean distance from ideal: {misses}.",
        f"Patients in bins of similar prediction, all runs together. Shown: {what}. On "
        f"the dotted line it is as predicted. Mean distance from it: {misses}.",
    )


def _calibrated(study: Study) -> str:
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        return f"{outcome.column} ({outcome.unit})"
    if isinstance(outcome, Binary):
        return f"share with {outcome.column} = {outcome.positive}"
    return f"share with {outcome.event} by the middle of the time grid"


def joint_plot(study: Study, line: Line) -> Plot | None:
    """Show counts of patients by predicted and observed value; only for a continuous outcome."""
    grids = [cell.figures for cell in line.cells if cell.figures.joint]
    outcome = study.outcome
    if not isinstance(outcome, Continuous) or not grids or grids[0].joint_range is None:
        return None
    low, high = grids[0].joint_range
    counts: NDArray[np.float64] = np.sum([np.asarray(g.joint, float) for g in grids], axis=0)
    figure, axes = blank(3.9)
    most = int(counts.max())
    image = axes.imshow(
        np.sqrt(np.where(counts > 0, counts, np.nan)), cmap="Blues", origin="lower",
        extent=(low, high, low, high), interpolation="none", vmin=-0.2 * np.sqrt(most),
    )  # fmt: skip
    axes.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=":")
    filled = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1))
    end = low + (high - low) * (int(filled.max(initial=0)) + 1) / len(counts)
    axes.set(xlim=(low, end), ylim=(low, end), anchor="W")
    axes.grid(visible=False)
    scale = figure.colorbar(image, ax=axes, label="patients, all runs together", pad=0.04)
    marks = [mark for mark in COUNT_MARKS if mark <= most]
    scale.set_ticks([float(np.sqrt(mark)) for mark in marks], labels=list(map(str, marks)))
    axes.set_xlabel(f"predicted {outcome.column} ({outcome.unit})")
    axes.set_ylabel(f"observed {outcome.column} ({outcome.unit})")
    return finish(
        figure,
        "joint",
        f"Heat map of predicted against observed {outcome.column}, {line.label}, "
        f"{int(counts.sum())} predictions.",
        f"{line.label}: darker squares hold more patients. On the dotted line the prediction is "
        "exact; squares above it are patients whose value was higher than predicted.",
    )


def survival_plot(study: Study, line: Line) -> Plot | None:
    """Show Kaplan-Meier curves by third of predicted risk, averaged over seeds."""
    outcome = study.outcome
    curves = _mean_curves(line.cells)
    if not isinstance(outcome, Survival) or not curves:
        return None
    figure, axes = blank(3.4)
    for (name, (times, survival)), colour, marker in zip(
        curves.items(), RISK_COLOURS, MARKERS, strict=False
    ):
        percent = [100 * share for share in survival]
        axes.plot(times, percent, color=colour, marker=marker, markersize=4, label=name)
    axes.set(ylim=(0, 102))
    axes.set_xlim(left=0)
    axes.set_xticks([0.0, *outcome.grid], [f"{time:g}" for time in (0.0, *outcome.grid)])
    axes.set_xlabel(f"time ({outcome.unit})")
    axes.set_ylabel(f"patients without {outcome.event} (%)")
    legend_above(axes)
    last = next(iter(curves.values()))[0][-1]
    ends = "; ".join(
        f"{name} {100 * survival[-1]:.0f}\u00a0%" for name, (_, survival) in curves.items()
    )
    runs = "one run" if len(line.cells) == 1 else f"averaged over {len(line.cells)} runs"
    return finish(
        figure,
        "survival",
        f"Kaplan-Meier curves by third of predicted risk. At {last:g} {outcome.unit}: {ends}.",
        f"{line.label}, {runs}: what happened to the test patients whom the model put into "
        f"each third of risk (Kaplan-Meier at the times of the grid). Without "
        f"{outcome.event} at {last:g} {outcome.unit}: {ends}. The further apart the curves, the "
        "better the model separates patients.",
    )


def _mean_curves(cells: Sequence[Cell]) -> dict[str, tuple[list[float], list[float]]]:
    """Return times and mean survival by group, over the runs that share the first run's times."""
    times: dict[str, list[float]] = {}
    survival: dict[str, list[list[float]]] = defaultdict(list)
    for cell in cells:
        for group in cell.figures.risk_groups:
            if group.times and times.setdefault(group.name, group.times) == group.times:
                survival[group.name].append(group.survival)
    return {
        name: (times[name], [float(value) for value in np.mean(curves, axis=0)])
        for name, curves in survival.items()
    }
