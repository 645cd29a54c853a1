"""Where the marks of the page's pictures stand; the template draws them, each beside a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 24.0, 10.0, 40.0
PERCENTS = (0, 25, 50, 75, 100)
MOST_TICKS = 4
BAR = 50.0  # half the width of a bar's place
IN_A_ROW, ICON = 10, 20.0


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, and what stands beside it."""

    at: float
    words: str


@dataclass(frozen=True)
class Curve:
    """A survival curve in a box of WIDTH by HEIGHT.

    Attributes
    ----------
    points : str
        The corners of the line, as SVG takes them.
    across, up : tuple of Tick
        Times, and shares out of 100.
    unit : str
        Unit of the times.
    """

    points: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    unit: str


@dataclass(frozen=True)
class Icon:
    """One of a hundred circles."""

    x: float
    y: float
    filled: bool


@dataclass(frozen=True)
class Bar:
    """A bar from the middle of its place, 2 BAR wide, to one side."""

    x: float
    width: float


def curve(grid: Sequence[float], shares: Sequence[float], unit: str) -> Curve:
    """Return the curve through 1 at time 0 and `shares` at the times of `grid`, joined straight."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    across = [LEFT + width * time / grid[-1] for time in (0.0, *grid)]
    down = [TOP + height * (1.0 - share) for share in (1.0, *shares)]
    count = min(MOST_TICKS, len(grid))
    marked = [0, *((k + 1) * len(grid) // count for k in range(count))]
    times = (0.0, *grid)
    return Curve(
        " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True)),
        tuple(Tick(round(across[k], 1), f"{times[k]:g}") for k in marked),
        tuple(Tick(TOP + height * (1.0 - share / 100.0), str(share)) for share in PERCENTS),
        unit,
    )


def icons(filled: int) -> tuple[Icon, ...]:
    """Return a hundred icons in ten rows, the first `filled` of them filled."""
    return tuple(
        Icon((k % IN_A_ROW + 0.5) * ICON, (k // IN_A_ROW + 0.5) * ICON, k < filled)
        for k in range(100)
    )


def bar_of(length: float) -> Bar:
    """Return the bar of a number in [-1, 1]: to the right of the middle if it is positive."""
    width = round(BAR * abs(length), 2)
    return Bar(BAR if length >= 0 else round(BAR - width, 2), width)
