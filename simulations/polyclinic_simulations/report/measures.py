"""How each metric is named, explained and printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Continuous
from polyclinic_common.study.sections import LOWER_IS_BETTER
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
    """

    key: str
    name: str
    says: str
    meaning: str
    unit: str = ""
    factor: float = 1.0
    decimals: int = 3

    @property
    def heading(self) -> str:
        """Name with unit, as it stands at the beginning."""
        name = self.name[0].upper() + self.name[1:]
        return f"{name} ({self.unit})" if self.unit else name

    @property
    def axis(self) -> str:
        """Label of an axis."""
        better = "lower" if self.key in LOWER_IS_BETTER else "higher"
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


_ALL = {
    measure.key: measure
    for measure in (
        Measure(
            "mae",
            "mean error",
            "is off by {} on average",
            "mean absolute error: how far the prediction lies from the truth, on average",
        ),
        Measure(
            "rmse",
            "RMSE",
            "has a root-mean-square error of {}",
            "root-mean-square error: like the mean error, but large errors weigh more",
        ),
        Measure(
            "within_20",
            "share within 20 %",
            "comes within 20 % of the truth for {} of the patients",
            "share of patients whose prediction lies within 20 % of the truth",
            unit="%",
            factor=100.0,
            decimals=1,
        ),
        Measure(
            "accuracy",
            "accuracy",
            "is right for {} of the patients",
            "share of patients for whom the likelier answer is the true one",
            unit="%",
            factor=100.0,
            decimals=1,
        ),
        Measure(
            "auc",
            "AUC",
            "tells patients apart with an area under the ROC curve of {} "
            "(0.5 is chance, 1 is perfect)",
            "of two patients, one with and one without the outcome: how often the first gets the "
            "higher probability (0.5 is chance, 1 is perfect)",
        ),
        Measure(
            "brier",
            "Brier score",
            "predicts probabilities with a Brier score of {} (0 is perfect)",
            "mean squared distance between predicted probability and outcome (0 is perfect)",
        ),
        Measure(
            "c_index",
            "C-index",
            "ranks patients by risk with a C-index of {} (0.5 is chance, 1 is perfect)",
            "Harrell's concordance: of two comparable patients, how often the one with the higher "
            "predicted risk has the earlier event (0.5 is chance, 1 is perfect)",
        ),
        Measure(
            "td_auc",
            "time-dependent AUC",
            "tells who has the event by a time with an area under the ROC curve of {} "
            "(0.5 is chance, 1 is perfect)",
            "of two patients, one with the event by a time of the grid and one without it then: "
            "how often the first has the higher predicted risk, over all times (0.5 is chance, 1 "
            "is perfect); whose follow-up ends before is stood for by those who are seen (IPCW)",
        ),
        Measure(
            "ibs",
            "integrated Brier score",
            "predicts survival with an integrated Brier score of {} (0 is perfect)",
            "mean squared distance between predicted survival and whether a patient is without the "
            "event, averaged over time up to the end of the grid (0 is perfect); whose follow-up "
            "ends before is stood for by those who are seen (IPCW)",
        ),
    )
}


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
    measure = _ALL[metric]
    if metric in {"mae", "rmse"} and isinstance(study.outcome, Continuous):
        low, high = study.outcome.range
        decimals = min(6, max(0, 4 - math.floor(math.log10(high - low))))
        return replace(measure, unit=study.outcome.unit, decimals=decimals)
    return measure
