"""The benchmark's plots, in the look of the report."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, sqrt

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from polyclinic_simulations.bench.records import GrowthPoint, JobTime, Spread, StepTime, SumTime
from polyclinic_simulations.report.drawing import (
    BLUE,
    GREEN,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    VERMILION,
    WIDTH,
    Plot,
    blank,
    finish,
    legend_above,
    row_labels,
)

COLOURS = (BLUE, ORANGE, MUTED)
PART_COLOURS = (MUTED, BLUE, GREEN, ORANGE, VERMILION, INK)


def job_plot(job: Sequence[JobTime]) -> Plot:
    """Draw the time of every variant of job J, rounds and the rest apart."""
    figure, axes = blank(0.6 + 0.45 * len(job))
    rows = list(range(len(job)))
    rounds = [each.rounds_s.median for each in job]
    rest = [each.total_s.median - each.rounds_s.median for each in job]
    axes.barh(rows, rest, height=0.55, color=MUTED, label="imports and preparation")
    axes.barh(rows, rounds, left=rest, height=0.55, color=BLUE, label="rounds")
    errors = [(s.median - s.low, s.high - s.median) for s in (each.total_s for each in job)]
    lower, upper = zip(*errors, strict=True)
    totals = [each.total_s.median for each in job]
    axes.errorbar(totals, rows, xerr=(lower, upper), fmt="none", ecolor="black", capsize=2.5)
    row_labels(axes, rows, [each.variant for each in job])
    axes.set_xlabel("seconds from start to finish (median; whiskers: lowest and highest)")
    legend_above(axes)
    words = "; ".join(f"{each.variant} {each.total_s.median:.1f} s" for each in job)
    return finish(figure, "job", f"Bars of time: {words}.", "Job J, one process a bar.")


def steps_plot(steps: Sequence[StepTime]) -> Plot:
    """Draw milliseconds of a step by kind of gradients, one row a head and kind."""
    figure, axes = blank(0.6 + 0.32 * len(steps))
    rows = list(range(len(steps)))
    names = [f"{step.head}: {step.gradients}" for step in steps]
    for label, marker, colour, spreads in (
        ("whole step", "o", BLUE, [step.step_ms for step in steps]),
        ("clipped sum alone", "D", ORANGE, [step.sum_ms for step in steps]),
    ):
        _whiskers(axes, rows, spreads, label, marker, colour)
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    row_labels(axes, rows, names)
    axes.set_xlabel("milliseconds (median; whiskers: lowest and highest)")
    legend_above(axes)
    words = "; ".join(
        f"{name} {step.step_ms.median:.2f} ms" for name, step in zip(names, steps, strict=True)
    )
    return finish(figure, "steps", f"Points of time of a step: {words}.", "One DP-SGD step.")


def _whiskers(
    axes: Axes,
    rows: Sequence[float],
    spreads: Sequence[Spread],
    label: str,
    marker: str,
    colour: str,
) -> None:
    middle = [spread.median for spread in spreads]
    lower = [spread.median - spread.low for spread in spreads]
    upper = [spread.high - spread.median for spread in spreads]
    axes.errorbar(
        middle, rows, xerr=(lower, upper), fmt=marker, color=colour, label=label, capsize=2.5
    )


def _plain_numbers(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis out, at one, two and five of every decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axis.set_minor_formatter(NullFormatter())


def _at_least_a_decade(low: float, high: float) -> tuple[float, float]:
    """Widen the limits of a logarithmic axis: a short one would have a single number on it."""
    more = sqrt(max(1.0, 10.0 * low / high))
    return low / more, high * more


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def growth_plot(curve: str, across: str, points: Sequence[GrowthPoint], caption: str) -> Plot:
    """Draw seconds of a round and megabytes against what grows, one line a head and gradients."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    lines: dict[str, list[GrowthPoint]] = {}
    for point in points:
        lines.setdefault(f"{point.head} head, {point.gradients} gradients", []).append(point)
    for (name, line), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        at, look = [point.at for point in line], {"color": colour, "marker": marker}
        left.plot(at, [point.round_s for point in line], label=name, **look)
        right.plot(at, [point.beyond_mb or nan for point in line], **look)
    patients = next(iter(lines.values()))
    right.plot(
        [point.at for point in patients], [point.patients_mb for point in patients], "k:",
        label="the encoded patients",
    )  # fmt: skip
    for axes, label in ((left, "seconds a round"), (right, "MB beyond the patients")):
        axes.set(xscale="log", yscale="log", xlabel=across, ylabel=label)
        axes.set_ylim(*_at_least_a_decade(*axes.get_ylim()))
        _plain_numbers(axes.yaxis)
        axes.set_xticks(at, [_number(place) for place in at])
        axes.xaxis.set_minor_formatter(NullFormatter())
    handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    last = points[-1]
    alt = (
        f"Two curves against {across}: seconds a round and memory. At {last.at:,}: "
        f"{last.round_s:.3f} s and {last.beyond_mb:.0f} MB."
    )
    return finish(figure, curve, alt, caption)


def sums_plot(sums: Sequence[SumTime]) -> Plot:
    """Draw what a site's round is made of, the lengths side by side; SecAgg+ and masks below."""
    lengths = sorted({each.length for each in sums})
    height = 1.0 + 0.75 * max(sum(e.length == length for e in sums) for length in lengths)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    for axes, length in zip(
        figure.subplots(1, len(lengths), squeeze=False)[0], lengths, strict=True
    ):
        chosen = [each for each in sums if each.length == length]
        names: list[str] = []
        for each in chosen:
            _stack(axes, len(names), {name: ms.median for name, ms in each.site_ms.items()})
            axes.barh(
                len(names) + 1, sum(each.secagg_ms.values()), color="#cc79a7", label="SecAgg+"
            )
            axes.barh(len(names) + 2, each.bare_site.median, color="#56b4e9", label="bare masks")
            names += [f"{each.hospitals} hospitals", "SecAgg+", "bare masks"]
        row_labels(axes, list(range(len(names))), names)
        axes.set_xlabel(f"ms a site, {length:,} numbers")
    handles, labels = axes.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(list(shown.values()), list(shown), loc="outside upper left", ncols=4)
    last = sums[-1]
    alt = (
        f"Stacked bars of a site's milliseconds. {last.hospitals} hospitals, {last.length:,} "
        f"numbers: {last.site.median:.0f} ms, SecAgg+ {sum(last.secagg_ms.values()):.0f} ms."
    )
    return finish(figure, "sums", alt, "A site's part in one round, by what it does.")


def _stack(axes: Axes, row: int, parts: dict[str, float]) -> None:
    """Draw one bar, part after part."""
    left = 0.0
    for (name, width), colour in zip(parts.items(), PART_COLOURS, strict=True):
        axes.barh(row, width, left=left, color=colour, label=name)
        left += width
