"""Charts of a look as inline SVG: what the template draws, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyclinic_client.watch.inputs import ColumnTest
from polyclinic_client.watch.performance import Performance

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, BOTTOM, TOP = 44, 20, 28, 12
MOST_POINTS = 300


@dataclass(frozen=True)
class Line:
    """A line of a chart: its classes in the style sheet, and points as SVG writes them."""

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
    limit = {
        "more": [(each.chances, each.more) for each in found.limits],
        "less": [(each.chances, each.less) for each in found.limits],
    }
    shown = np.unique(np.linspace(0, count - 1, MOST_POINTS).astype(int))
    highest = max(
        *found.sums.more,
        *found.sums.less,
        *(height for side in limit.values() for _, height in side),
    )

    def place(at: float, value: float) -> str:
        x = LEFT + at / count * (WIDTH - LEFT - RIGHT)
        return f"{x:.1f},{_height(value, highest):.1f}"

    lines = tuple(
        Line(name, " ".join(place(at + 1, sums[at]) for at in shown))
        for name, sums in (("more", found.sums.more), ("less", found.sums.less))
    )
    steps = tuple(
        Line(
            f"{name} limit",
            " ".join(f"{place(a, high)} {place(b, high)}" for a, b, high in _steps(side)),
        )
        for name, side in limit.items()
    )
    rows = tuple(
        (
            str(int(found.chances.owner[each.chances - 1]) + 1),
            f"{found.sums.more[each.chances - 1]:.2f}",
            f"{each.more:.2f}",
            f"{found.sums.less[each.chances - 1]:.2f}",
            f"{each.less:.2f}",
        )
        for each in found.limits
    )
    across = tuple(
        Tick(LEFT + at / count * (WIDTH - LEFT - RIGHT), _patient(found, at))
        for at in (round(share * count) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    )
    up = tuple(Tick(_height(v, highest), f"{v:.1f}") for v in np.linspace(0, highest, 4))
    return SumChart((*lines, *steps), across, up, rows)


def _patient(found: Performance, chances: int) -> str:
    """Return whose chance is the last of so many: which patient, counted from 1."""
    return str(int(found.chances.owner[chances - 1]) + 1) if chances else "0"


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
