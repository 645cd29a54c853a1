"""An interval for one patient's prediction, and what it promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Interval:
    """An interval for one patient's prediction.

    Attributes
    ----------
    low, high : float
        In the unit of the outcome, or probabilities.
    level : float or None
        How often intervals like it are right; None where there is no such promise (venn-abers).
    how : str
        What it rests on.
    words : str
        The same in plain words.
    """

    low: float
    high: float
    level: float | None
    how: Literal["conformal", "venn-abers", "bins", "approximate"]
    words: str


Intervals = tuple[Interval | None, ...]
