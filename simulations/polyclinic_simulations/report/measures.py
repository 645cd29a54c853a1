"""How each metric is named, explained and printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from polyclinic_common.evaluation.metrics import METRICS, Metric
from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Continuous
from polyclinic_simulations.results.results import mean_and_error

UNKNOWN = "–"


@dataclass(frozen=True)
class Measure:
    """A metric as the report shows it.

    Attributes
    ----------
    key : str
        Name in ``result.json``.
    name : str
        Name for the reader, as it stands within a sentence.
    says : str
        What it says of the model, with ``{}`` in the place of the value.
    meaning : str
        Definition in one line.
    unit : str
        Unit of what is printed.
    factor : float
        What is printed = factor x what is stored.
    decimals : int
        Digits after the point.
    lower_is_better : bool
        Its direction.
    """

    key: str
    name: str
    says: str
    meaning: str
    unit: str = ""
    factor: float = 1.0
    decimals: int = 3
    lower_is_better: bool = False

    @staticmethod
    def of(metric: Metric, unit: str, decimals: int) -> Measure:
        """Return how a metric is shown in this unit."""
        return Measure(
            metric.name,
            metric.title,
            metric.says,
            metric.meaning,
            unit,
            metric.factor,
            decimals,
            metric.lower_is_better,
        )

    @property
    def heading(self) -> str:
        """Name with unit, as it stands at the beginning."""
        name = self.name[0].upper() + self.name[1:]
        return f"{name} ({self.unit})" if self.unit else name

    @property
    def axis(self) -> str:
        """Label of an axis."""
        better = "lower" if self.lower_is_better else "higher"
        unit = f"{self.unit}; " if self.unit else ""
        return f"{self.name[0].upper()}{self.name[1:]} ({unit}{better} is better)"

    def scaled(self, values: Sequence[float | None]) -> tuple[float | None, float | None]:
        """Return mean and standard error of stored values, in the printed unit."""
        mean, error = mean_and_error(values)
        return (
            None if mean is None else mean * self.factor,
            None if error is None else error * self.factor,
        )

    def text(self, values: Sequence[float | None]) -> str:
        """Return ``mean ± standard error`` without unit; a dash where undefined."""
        mean, error = self.scaled(values)
        if mean is None:
            return UNKNOWN
        shown = decimals(mean, self.decimals)
        return shown if error is None else f"{shown} ± {decimals(error, self.decimals)}"

    def phrase(self, values: Sequence[float | None]) -> str:
        """Return ``mean ± standard error unit``."""
        return f"{self.text(values)}\u00a0{self.unit}" if self.unit else self.text(values)

    def apart(self, differences: Sequence[float | None]) -> str:
        """Return the mean of `differences ± standard error unit`."""
        return f"{self.text(differences)} {self._unit_apart}".strip()

    def size(self, difference: float) -> str:
        """Return the size of a difference, without its sign, with its unit."""
        shown = decimals(abs(difference) * self.factor, self.decimals)
        return f"{shown} {self._unit_apart}".strip()

    def interval(self, low: float, high: float) -> str:
        """Return ``low to high``, of stored values, without unit."""
        ends = (decimals(end * self.factor, self.decimals) for end in (low, high))
        return " to ".join(ends)

    @property
    def _unit_apart(self) -> str:
        return "percentage points" if self.unit == "%" else self.unit


def measures_of(study: Study, main: str) -> list[Measure]:
    """Return the measures that a simulation reports, the one that headlines first.

    Parameters
    ----------
    main : str
        Metric that headlines: ``Result.main_metric``.
    """
    first = (main, "brier") if main == "auc" else (main,)
    order = study.metrics if main == study.metrics[0] else first
    rest = [metric for metric in study.metrics if metric not in order]
    return [measure_of(study, metric) for metric in (*order, *rest)]


def decimals(number: float, digits: int) -> str:
    """Write a number with so many digits after the point, a true minus, and no minus zero."""
    shown = f"{number:.{digits}f}"
    return shown.removeprefix("-") if float(shown) == 0.0 else shown.replace("-", "−")


def measure_of(study: Study, metric: str) -> Measure:
    """Return how `metric` is shown in this study."""
    found = METRICS[metric]
    if found.in_outcome_unit and isinstance(study.outcome, Continuous):
        low, high = study.outcome.range
        digits = min(6, max(0, 4 - math.floor(math.log10(high - low))))
        return Measure.of(found, study.outcome.unit, digits)
    return Measure.of(found, found.unit, found.decimals)
