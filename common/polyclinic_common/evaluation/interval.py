"""A released metric with its interval, and how clear of its noise a number has to be."""

from __future__ import annotations

from dataclasses import dataclass

Z = 1.959963984540054
CLEAR, CLEAR_PAIRS = 3.0, 8.0  # standard deviations of a denominator above zero, at least
CLEAR_AT_RISK = 4.0  # the same, of patients who are followed to a time
MOST_BLUR = 0.025  # standard deviation by noise of the share of patients in a risk bin


@dataclass(frozen=True)
class Reading:
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float
