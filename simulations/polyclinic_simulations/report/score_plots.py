"""Plots of metrics: models beside each other, privacy against utility, groups, training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polyclinic_simulations.report.comparison import TOGETHER, Comparison, Line
from polyclinic_simulations.report.differences import beside_formulas
from polyclinic_simulations.report.drawing import (
    DASHES,
    MUTED,
    WIDTH,
    Plot,
    blank,
    dots,
    finish,
    legend_above,
    look,
    name_above,
    name_below,
    row_labels,
    shades,
)
from polyclinic_simulations.report.measures import Measure
from polyclinic_simulations.results.results import Cell, mean_and_error

ROW_HEIGHT = 0.27
DODGE = 1.03
PANELS_ABREAST = 3


def overview_plot(comparison: Comparison, measure: Measure) -> Plot:
    """Show every setting and baseline in one column of dots."""
    lines = [*comparison.settings, *comparison.rivals(measure.key)]
    figure, axes = blank(0.7 + ROW_HEIGHT * len(lines))
    named: set[str | None] = set()
    for row, line in enumerate(lines):
        together, (colour, marker) = bool(line.cells), look(line.mode)
        point = measure.scaled(line.overall(measure.key))
        name = f"mode {line.mode}" if together and line.mode not in named else ""
        named |= {line.mode}
        dots(axes, [row], [point], name, colour, marker, hollow=not together)
    row_labels(axes, range(len(lines)), [line.label for line in lines])
    axes.axhline(len(comparison.settings) - 0.5, color=MUTED, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    name_below(axes, f"{measure.axis}, all test patients")
    legend_above(axes)
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
    figure, axes = blank(3.9)
    alone = tuple(line for line in comparison.baselines if line.epsilon is not None)
    curves: dict[tuple[str, str | None, str], list[Line]] = defaultdict(list)
    for line in comparison.private + alone:
        curves[line.key, line.mode, line.variant].append(line)
    variants = list(dict.fromkeys(line.variant for line in comparison.private))
    for place, ((key, mode, variant), lines) in enumerate(curves.items()):
        aside = DODGE ** (place - (len(curves) - 1) / 2)
        name = f"{lines[0].name}{variant} ({mode})"
        dash = DASHES[variants.index(variant) % len(DASHES)]
        _curve(axes, lines, measure, name, dash, aside, hollow=key != TOGETHER)
    references = [
        comparison.open or comparison.baseline("pooled_same_trainer"),
        *(comparison.baseline(key) for key in ("local_only_non_private", "pooled_converged")),
        *(comparison.baseline(key) for key in ("cox", "trivial")),
        *(beside.formula for beside in beside_formulas(comparison, comparison.headline)
          if not beside.fewer),
    ]  # fmt: skip
    if measure.key == "accuracy":
        references.append(comparison.baseline("nobody"))
    _reference_lines(axes, [line for line in references if line is not None], measure)
    ticks = sorted({line.epsilon for line in comparison.private if line.epsilon is not None})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("ε promised to every patient (stronger privacy to the left)")
    name_above(axes, measure.axis)
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
        "What privacy costs: the further left, the better each patient is protected. Curves of one "
        "ε stand slightly beside each other. Hollow: hospitals on their own. The labelled lines do "
        "not depend on ε; whiskers and bands are one standard error over the runs.",
    )


def _curve(
    axes: Axes,
    lines: Sequence[Line],
    measure: Measure,
    name: str,
    dash: str,
    aside: float,
    *,
    hollow: bool,
) -> None:
    points = [(line.epsilon, *measure.scaled(line.overall(measure.key))) for line in lines]
    known = [
        (eps * aside, mean, error or 0.0)
        for eps, mean, error in points
        if eps is not None and mean is not None
    ]
    if known:
        epsilons, means, errors = zip(*known, strict=True)
        colour, marker = look(lines[0].mode)
        axes.errorbar(
            epsilons, means, yerr=errors, fmt=f"{marker}{dash}", color=colour, label=name,
            capsize=3, linewidth=1.0 if hollow else 1.8,
            markerfacecolor="white" if hollow else colour,
        )  # fmt: skip


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
    names: Mapping[str, str],
    read: Callable[[Line, str], list[float | None]],
    measure: Measure,
    key: str,
) -> Plot:
    """Show one row of dots a site or subgroup, one kind of dot a line.

    `names` are the groups with what they are called.
    """
    figure, axes = blank(0.95 + ROW_HEIGHT * 1.15 * len(names))
    for index, line in enumerate(lines):
        colour, marker = look(line.mode) if line.cells else look(None)
        hollow = line is not lines[0]
        rows = [row + 0.2 * (index - (len(lines) - 1) / 2) for row in range(len(names))]
        points = [measure.scaled(read(line, name)) for name in names]
        dots(axes, rows, points, line.label, colour, marker, hollow=hollow)
    row_labels(axes, range(len(names)), list(names.values()))
    name_below(axes, measure.axis)
    legend_above(axes)
    first = lines[0]
    values = "; ".join(
        f"{called}: {measure.phrase(read(first, name))}" for name, called in names.items()
    )
    return finish(
        figure,
        key,
        f"Dot plot of {measure.heading} by group. {first.label}: {values}.",
        "Whiskers are one standard error over the runs. Small groups scatter by chance alone: "
        "read single dots with the number of patients in mind.",
    )


def learning_plot(comparison: Comparison, measure: Measure) -> Plot | None:
    """Show the metric during training, a panel a mode: mean over seeds, band of all runs."""
    panels: dict[tuple[str | None, str], list[Line]] = defaultdict(list)
    for line in comparison.settings:
        if _by_round(line.cells, measure.factor):
            panels[line.mode, line.variant].append(line)
    if not panels:
        return None
    columns = min(PANELS_ABREAST, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 3.0 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    said: list[str] = []
    for axes, ((mode, variant), lines) in zip(grid, panels.items(), strict=False):
        said += _learning_panel(axes, lines, measure)
        name = "no privacy" if mode == "none" else f"mode {mode}"
        axes.set_title(f"{name}{variant}", loc="left", fontsize=8.5)
        axes.set_xlabel("round of training")
        axes.tick_params(labelbottom=True)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=2.4,
            columnspacing=1.0,
        )  # fmt: skip
    figure.suptitle(measure.axis, x=0.01, ha="left", fontsize=8.5)
    return finish(
        figure,
        "learning",
        f"{measure.heading} during training. {'; '.join(said)}.",
        "The averaged model on the test patients after each round: the mean over the runs, the "
        "band from the lowest to the highest run. A flat end says that more rounds would not help.",
    )


def _learning_panel(axes: Axes, lines: Sequence[Line], measure: Measure) -> list[str]:
    """Draw the settings of one mode; return where each begins and ends, in words."""
    colour, marker = look(lines[0].mode)
    said = []
    for index, (line, shade) in enumerate(zip(lines, shades(colour, len(lines)), strict=True)):
        rounds = _by_round(line.cells, measure.factor)
        means = [mean_and_error(values)[0] or 0.0 for values in rounds.values()]
        axes.fill_between(
            list(rounds), list(map(min, rounds.values())), list(map(max, rounds.values())),
            color=shade, alpha=0.15, linewidth=0,
        )  # fmt: skip
        axes.plot(
            list(rounds), means, DASHES[index % len(DASHES)], color=shade, marker=marker,
            label=line.plain_setting, markersize=3.5, linewidth=1.4,
        )  # fmt: skip
        said.append(f"{line.label}: from {means[0]:.3g} to {means[-1]:.3g}")
    return said


def _by_round(cells: Sequence[Cell], factor: float) -> dict[int, list[float]]:
    rounds: dict[int, list[float]] = defaultdict(list)
    for cell in cells:
        figures = cell.figures
        for at, value in zip(figures.curve_rounds, figures.curve_values, strict=True):
            if value is not None:
                rounds[at].append(value * factor)
    return dict(sorted(rounds.items()))
