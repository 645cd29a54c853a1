"""Released figures as a person reads them: in their unit, with their 95 % interval."""

from __future__ import annotations

import math
from typing import Self

from pydantic import model_validator

from polyclinic_common.bundle.certificate import Record
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.metrics import METRICS, Metric
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous


class Table(Record):
    """A small table of texts; the first column names the rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row has another number of cells than there are columns")
        return self


class Scale(Record):
    """How a figure is printed.

    Attributes
    ----------
    name : str
        What it is, as a heading.
    unit : str
        Unit of what is printed; empty where there is none.
    decimals : int
        Digits after the point.
    """

    name: str
    unit: str = ""
    decimals: int = 3

    def text(self, reading: Reading) -> str:
        """Return ``value unit (low to high)``."""
        value, low, high = (
            f"{number:.{self.decimals}f}" for number in (reading.value, reading.low, reading.high)
        )
        return f"{_with_unit(value, self.unit)} ({low} to {high})"

    def gap_text(self, gap: Reading) -> str:
        """Return a difference of two figures, with its sign."""
        value, low, high = (
            f"{round(number, self.decimals) + 0.0:+.{self.decimals}f}"  # no minus before a zero
            for number in (gap.value, gap.low, gap.high)
        )
        return f"{_with_unit(value, self.unit_apart)} ({low} to {high})"

    def size_text(self, size: float) -> str:
        """Return the size of a difference."""
        return _with_unit(f"{abs(size):.{self.decimals}f}", self.unit_apart)

    @property
    def unit_apart(self) -> str:
        """Unit of a difference of two such figures."""
        return "points" if self.unit == "%" else self.unit


class Figure(Record):
    """A released figure of one group of patients, in the unit of its scale; None if it is lost."""

    scale: Scale
    reading: Reading | None = None


def metric_scale(study: Study, metric: Metric) -> Scale:
    """Return how a metric of this study is printed."""
    name = metric.title[0].upper() + metric.title[1:]
    outcome = study.outcome
    if metric.in_outcome_unit and isinstance(outcome, Continuous):
        low, high = outcome.range
        decimals = min(max(4 - math.ceil(math.log10(high - low)), 0), 6)
        return Scale(name=name, unit=outcome.unit, decimals=decimals)
    return Scale(name=name, unit=metric.unit, decimals=metric.decimals)


def metric_figure(study: Study, name: str, reading: Reading | None) -> Figure:
    """Return a metric of a group in the unit in which it is printed."""
    metric = METRICS[name]
    scale = metric_scale(study, metric)
    return Figure(scale=scale, reading=None if reading is None else scaled(reading, metric.factor))


def scaled(reading: Reading, factor: float, offset: float = 0.0) -> Reading:
    """Return ``factor * (reading - offset)``, interval included; `factor` is positive."""
    value, low, high = (
        factor * (number - offset) for number in (reading.value, reading.low, reading.high)
    )
    return Reading(value, low, high)


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number
