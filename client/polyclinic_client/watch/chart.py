"""Charts of a look as inline SVG: what the template draws, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyclinic_client.watch.inputs import ColumnTest
from polyclinic_client.watch.performance import Performance

WIDTH, HEIGHT = 640, 220
LEFT, BOTTOM, TOP = 44, 28, 12
MOST_POINTS = 300


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, and points as SVG writes them; `name` is its class, too."""

    name: str
    points: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class SumChart:
    """The CUSUM: lines, marks on both axes, and the same in numbers, a row a look."""

    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """How far a column has moved, as a share of the chart's width, beside its test."""

    test: ColumnTest
    top: float
    width: float


def sum_chart(found: Performance) -> SumChart:
    """Return the chart of both sums and their limit."""
    count = len(found.chances)
    limit = [(each.chances, each.height) for each in found.limits]
    shown = np.unique(np.linspace(0, count - 1, MOST_POINTS).astype(int))
    highest = max(*found.sums.more, *found.sums.less, *(height for _, height in limit)) * 1.05

    def place(at: float, value: float) -> str:
        x = LEFT + at / count * (WIDTH - LEFT - 8)
        return f"{x:.1f},{_height(value, highest):.1f}"

    lines = tuple(
        Line(name, " ".join(place(at + 1, sums[at]) for at in shown))
        for name, sums in (("more", found.sums.more), ("less", found.sums.less))
    )
    steps = " ".join(
        f"{place(start, high)} {place(end, high)}" for start, end, high in _steps(limit)
    )
    rows = tuple(
        (
            str(int(found.chances.owner[at - 1]) + 1),
            f"{found.sums.more[at - 1]:.2f}",
            f"{found.sums.less[at - 1]:.2f}",
            f"{height:.2f}",
        )
        for at, height in limit
    )
    across = tuple(
        Tick(LEFT + share * (WIDTH - LEFT - 8), str(round(share * found.patients)))
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    up = tuple(Tick(_height(v, highest), f"{v:.1f}") for v in np.linspace(0, highest, 4))
    return SumChart((*lines, Line("limit", steps)), across, up, rows)


def _steps(limit: Sequence[tuple[int, float]]) -> list[tuple[int, int, float]]:
    starts = [0, *(at for at, _ in limit)]
    return [(start, at, high) for start, (at, high) in zip(starts[:-1], limit, strict=True)]


def _height(value: float, highest: float) -> float:
    return TOP + (1.0 - value / highest) * (HEIGHT - TOP - BOTTOM)


def bars(tests: Sequence[ColumnTest]) -> tuple[Bar, ...]:
    """Return how far each column's values have moved in all newer rows, the farthest first."""
    rows = max((each.rows for each in tests), default=0)
    moved = [each for each in tests if each.kind == "values" and each.rows == rows]
    moved.sort(key=lambda each: -each.size)
    return tuple(Bar(each, 24.0 * at, min(each.size, 1.0)) for at, each in enumerate(moved))
