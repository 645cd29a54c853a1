"""Plots of metrics: models beside each other, privacy against utility, groups, training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from polyclinic_simulations.comparison import Comparison, Line
from polyclinic_simulations.measures import Measure
from polyclinic_simulations.report.drawing import (
    BLUE,
    INK,
    MARKERS,
    MUTED,
    VERMILION,
    Plot,
    blank,
    colours,
    dashes,
    dots,
    finish,
    legend_above,
    row_labels,
)
from polyclinic_simulations.results import Cell, mean_and_error

ROW_HEIGHT = 0.27


DASHES = ("-", "--", ":", "-.")


def overview_plot(comparison: Comparison, measure: Measure) -> Plot:
    """Show every setting and baseline in one column of dots."""
    lines = comparison.settings + comparison.baselines
    figure, axes = blank(0.7 + ROW_HEIGHT * len(lines))
    for row, line in enumerate(lines):
        together = bool(line.cells)
        point = measure.scaled(line.overall(measure.key))
        dots(axes, [row], [point], "", BLUE if together else MUTED, hollow=not together)
    row_labels(axes, range(len(lines)), [line.label for line in lines])
    axes.axhline(len(comparison.settings) - 0.5, color=MUTED, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{measure.axis}, all test patients")
    values = "; ".join(f"{n.label}: {measure.phrase(n.overall(measure.key))}" for n in lines)
    return finish(
        figure,
        "overview",
        f"Dot plot of {measure.heading}. {values}.",
        "Filled: models trained across the hospitals. Hollow: what they are compared with. "
        "The whiskers are one standard error over the runs.",
    )


def privacy_utility_plot(comparison: Comparison, measure: Measure) -> Plot:
    """Show the metric against epsilon, with what no privacy would give as lines."""
    figure, axes = blank(3.7)
    shades = {"together": BLUE, "local_only_private": VERMILION}
    alone = tuple(line for line in comparison.baselines if line.epsilon is not None)
    curves: dict[tuple[str, str | None, str], list[Line]] = defaultdict(list)
    for line in comparison.private + alone:
        curves[line.key, line.mode, line.variant].append(line)
    looks = list(dict.fromkeys((line.mode, line.variant) for line in comparison.private))
    for (key, mode, variant), lines in curves.items():
        name = f"{lines[0].name}{variant}" + (f" ({mode})" if mode != "secure-sum" else "")
        dash = DASHES[looks.index((mode, variant)) % len(DASHES)]
        _curve(axes, lines, measure, name, shades[key], dash)
    references = [
        comparison.open or comparison.baseline("pooled_same_trainer"),
        *(comparison.baseline(key) for key in ("local_only_non_private", "pooled_converged")),
        *(comparison.baseline(key) for key in ("cox", "published", "trivial")),
    ]
    _reference_lines(axes, [line for line in references if line is not None], measure)
    ticks = sorted({line.epsilon for line in comparison.private if line.epsilon is not None})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("ε promised to every patient (stronger privacy to the left)")
    axes.set_ylabel(measure.axis)
    legend_above(axes)
    values = "; ".join(
        f"{line.setting}: {measure.phrase(line.overall(measure.key))}"
        for line in comparison.alike(comparison.private)
    )
    return finish(
        figure,
        "privacy",
        f"{measure.heading} against the promised ε on a logarithmic axis. Trained together: "
        f"{values}.",
        "What privacy costs: the further left, the better each patient is protected. The labelled "
        "lines do not depend on ε; whiskers and bands are one standard error over the runs.",
    )


def _curve(
    axes: Axes, lines: Sequence[Line], measure: Measure, name: str, colour: str, dash: str
) -> None:
    points = [(line.epsilon, *measure.scaled(line.overall(measure.key))) for line in lines]
    known = [(eps, mean, error or 0.0) for eps, mean, error in points if mean is not None]
    if known:
        epsilons, means, errors = zip(*known, strict=True)
        marker = "o" if colour == BLUE else "s"
        axes.errorbar(
            epsilons, means, yerr=errors, fmt=f"{marker}{dash}", color=colour, label=name, capsize=3
        )


def _reference_lines(axes: Axes, lines: Sequence[Line], measure: Measure) -> None:
    """Draw horizontal lines with their error bands, and name each at the right."""
    heights: list[tuple[float, str]] = []
    for line in lines:
        mean, error = measure.scaled(line.overall(measure.key))
        if mean is not None:
            axes.axhline(mean, color=MUTED, linewidth=1.0, linestyle=(0, (4, 2)))
            if error is not None:
                axes.axhspan(mean - error, mean + error, color=MUTED, alpha=0.10, linewidth=0)
            heights.append((mean, line.label))
    axes.margins(x=0.06)
    low, high = axes.get_ylim()
    heights.sort()
    for (mean, name), place in zip(heights, _apart(heights, (high - low) * 0.062), strict=True):
        axes.annotate(
            name, xy=(1.0, mean), xycoords=("axes fraction", "data"),
            xytext=(1.05, place), textcoords=("axes fraction", "data"), va="center", fontsize=7.5,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6}, annotation_clip=False,
        )  # fmt: skip


def _apart(heights: Sequence[tuple[float, str]], gap: float) -> list[float]:
    """Move sorted heights apart to at least `gap`, keeping their middle where it was."""
    places: list[float] = []
    for height, _ in heights:
        places.append(max(height, places[-1] + gap) if places else height)
    shift = sum(p - h for p, (h, _) in zip(places, heights, strict=True)) / max(1, len(places))
    return [place - shift for place in places]


def groups_plot(
    lines: Sequence[Line],
    names: Sequence[str],
    read: Callable[[Line, str], list[float | None]],
    measure: Measure,
    key: str,
) -> Plot:
    """Show one row of dots a site or subgroup, one kind of dot a line."""
    figure, axes = blank(0.95 + ROW_HEIGHT * 1.15 * len(names))
    looks = ((BLUE, "o", False), (INK, "D", True), (VERMILION, "s", True))
    for index, (line, (colour, marker, hollow)) in enumerate(zip(lines, looks, strict=False)):
        rows = [row + 0.2 * (index - (len(lines) - 1) / 2) for row in range(len(names))]
        points = [measure.scaled(read(line, name)) for name in names]
        dots(axes, rows, points, line.label, colour, marker, hollow=hollow)
    row_labels(axes, range(len(names)), names)
    axes.set_xlabel(measure.axis)
    legend_above(axes)
    first = lines[0]
    values = "; ".join(f"{name}: {measure.phrase(read(first, name))}" for name in names)
    return finish(
        figure,
        key,
        f"Dot plot of {measure.heading} by group. {first.label}: {values}.",
        "Whiskers are one standard error over the runs. Small groups scatter by chance alone: "
        "read single dots with the number of patients in mind.",
    )


def learning_plot(comparison: Comparison, measure: Measure) -> Plot | None:
    """Show the metric during training: mean over seeds, band from lowest to highest."""
    figure, axes = blank()
    palette, drawn = colours(comparison), []
    for line, marker in zip(comparison.settings, MARKERS * len(comparison.settings), strict=False):
        rounds = _by_round(line.cells, measure.factor)
        if not rounds:
            continue
        means = [mean_and_error(values)[0] or 0.0 for values in rounds.values()]
        axes.fill_between(
            list(rounds), list(map(min, rounds.values())), list(map(max, rounds.values())),
            color=palette[line.label], alpha=0.12, linewidth=0,
        )  # fmt: skip
        axes.plot(
            list(rounds), means, dashes(line), color=palette[line.label], label=line.label,
            marker=marker, markersize=3.5,
        )  # fmt: skip
        drawn.append(f"{line.label}: from {means[0]:.3g} to {means[-1]:.3g}")
    if not drawn:
        return None
    axes.set_xlabel("round of training")
    axes.set_ylabel(measure.axis)
    legend_above(axes)
    return finish(
        figure,
        "learning",
        f"{measure.heading} during training. {'; '.join(drawn)}.",
        "The averaged model on the test patients after each round: the mean over the runs, the "
        "band from the lowest to the highest run. A flat end says that more rounds would not help.",
    )


def _by_round(cells: Sequence[Cell], factor: float) -> dict[int, list[float]]:
    rounds: dict[int, list[float]] = defaultdict(list)
    for cell in cells:
        figures = cell.figures
        for at, value in zip(figures.curve_rounds, figures.curve_values, strict=True):
            if value is not None:
                rounds[at].append(value * factor)
    return dict(sorted(rounds.items()))
