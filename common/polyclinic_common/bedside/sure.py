"""How sure a prediction is: its interval in words and, over time, as a table."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic_common.bedside.hundred import of_hundred
from polyclinic_common.bundle.figures import Table
from polyclinic_common.bundle.interval import Interval, Intervals
from polyclinic_common.bundle.outcome_words import number
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, Survival


@dataclass(frozen=True)
class Sure:
    """How far the truth may lie from a prediction.

    Attributes
    ----------
    text : str
        The interval; of a course, nothing.
    how : str
        What it rests on.
    table : Table or None
        Of a course: the interval at every time at which it is known.
    """

    text: str
    how: str
    table: Table | None = None


def sure_of(study: Study, interval: Interval | None, in_time: Intervals) -> Sure | None:
    """Return how sure one prediction is; None where nothing is known.

    Parameters
    ----------
    interval : Interval or None
        Of a number or probability.
    in_time : tuple of Interval or None
        Of a course, at every time of the grid.
    """
    if isinstance(study.outcome, Survival):
        return _in_time(study.outcome, in_time)
    if interval is None:
        return None
    if isinstance(study.outcome, Continuous):
        low, high = number(interval.low, study.outcome), number(interval.high, study.outcome)
    else:
        low, high = f"{of_hundred(interval.low)} %", f"{of_hundred(interval.high)} %"
    return Sure(f"{low} to {high}", interval.words)


def _in_time(outcome: Survival, in_time: Intervals) -> Sure | None:
    known = [(end, each) for end, each in zip(outcome.grid, in_time, strict=True) if each]
    if not known:
        return None
    rows = tuple(
        (f"{end:g} {outcome.unit}", f"{of_hundred(each.low)} to {of_hundred(each.high)}")
        for end, each in known
    )
    table = Table(
        caption="Of 100 patients of a like risk, free of it",
        columns=("After", "Between"),
        rows=rows,
    )
    return Sure("", known[-1][1].words, table)
