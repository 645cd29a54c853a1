"""One look for all plots: size, colours, and figures turned into inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

WIDTH = 6.4
LETTERS_ABREAST = 84
INK, MUTED, FAINT = "#1d2733", "#5b6775", "#dde2e8"
# Okabe and Ito's colours: apart for every common form of colour blindness.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
LOOKS = {"secure-sum": (BLUE, "o"), "local": (VERMILION, "s"), "none": (INK, "D")}
LIGHTEST = 0.55
_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "polyclinic",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Plot:
    """A figure of the page: `alt` says in words what it shows, `caption` what to see in it."""

    svg: Markup
    alt: str
    caption: str


def style() -> AbstractContextManager[None]:
    """Return the context in which all plots are made."""
    return rc_context(_STYLE)


def blank(height: float = 3.2) -> tuple[Figure, Axes]:
    """Return an empty figure of the common width, `height` inches high."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def finish(figure: Figure, key: str, alt: str, caption: str) -> Plot:
    """Turn a figure into inline SVG; `key` keeps its ids apart from those of other figures."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=NO_METADATA)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\sid="|"#|url\(#)', rf"\g<1>{key}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*pt"', r"\1", svg, count=2)
    return Plot(Markup(svg), alt, caption)  # noqa: S704 - matplotlib escapes every text in it


def look(mode: str | None) -> tuple[str, str]:
    """Return colour and marker of a mode: each tells it from the others without the other one."""
    return LOOKS.get(mode or "", (MUTED, "v"))


def shades(colour: str, count: int) -> list[str]:
    """Return `count` shades of a colour, from the colour itself to a lighter one."""
    red, green, blue = to_rgb(colour)
    lighter = [LIGHTEST * step / max(1, count - 1) for step in range(count)]
    return [
        to_hex((red + (1 - red) * by, green + (1 - green) * by, blue + (1 - blue) * by))
        for by in lighter
    ]


def name_above(axes: Axes, name: str) -> None:
    """Name the vertical axis above it, where a name of any length fits."""
    axes.set_title(name, loc="left", fontsize=8.5)


def name_below(axes: Axes, name: str) -> None:
    """Name the horizontal axis from its right end, so that a long name grows to the left."""
    axes.set_xlabel(name, loc="right")


def dots(
    axes: Axes,
    rows: Sequence[float],
    points: Sequence[tuple[float | None, float | None]],
    label: str,
    colour: str,
    marker: str = "o",
    *,
    hollow: bool = False,
) -> None:
    """Draw (mean, error) points at heights `rows`; undefined ones are left out."""
    known = [
        (row, mean, error or 0.0)
        for row, (mean, error) in zip(rows, points, strict=True)
        if mean is not None
    ]
    if known:
        heights, means, errors = zip(*known, strict=True)
        axes.errorbar(
            means, heights, xerr=errors, fmt=marker, color=colour, label=label, capsize=2.5,
            elinewidth=1.2, markerfacecolor="white" if hollow else colour,
        )  # fmt: skip


def row_labels(axes: Axes, rows: Sequence[float], names: Sequence[str]) -> None:
    """Name horizontal rows, first on top."""
    axes.set_yticks(list(rows), list(names))
    axes.set_ylim(max(rows) + 0.6, min(rows) - 0.6)
    axes.tick_params(axis="y", length=0)


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, in as many columns as fit, if anything is named."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if handles and figure is not None:
        columns = max(1, min(3, LETTERS_ABREAST // (max(map(len, labels)) + 6)))
        figure.legend(
            handles, labels, loc="outside upper left", ncols=columns, borderaxespad=0.2,
            handlelength=1.8, columnspacing=1.4,
        )  # fmt: skip
