"""The metrics, an object each: exact value, what a patient adds to a private sum, and words.

To add one, write its object here and its name into the vocabulary of the contract
(:data:`polyclinic_common.study.sections.METRICS_OF`); training, private sums, bootstrap, tables
and plots follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polyclinic_common.evaluation import weighted
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.statistic import (
    Mean,
    Statistic,
    binary_histogram,
    error,
    is_right,
    is_within_20,
    survival_histogram,
)
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric.

    Attributes
    ----------
    name : str
        Its name in studies and results.
    of : callable
        Gives it for weighted patients.
    statistic : callable
        What a patient adds to a private sum, of which the metric is read.
    lower_is_better : bool
        Its direction.
    needs_curve : bool
        Whether it is defined only where survival curves are predicted.
    title : str
        Name for the reader, as it stands within a sentence.
    says : str
        What it says of the model, with ``{}`` in the place of the value.
    meaning : str
        Definition in one line.
    unit : str
        Unit of what is printed.
    in_outcome_unit : bool
        Whether it is in the unit of the outcome.
    factor : float
        What is printed = factor x the metric.
    decimals : int
        Digits after the point.
    """

    name: str
    of: weighted.Weighted
    statistic: Callable[[Study], Statistic]
    lower_is_better: bool = False
    needs_curve: bool = False
    title: str
    says: str
    meaning: str
    unit: str = ""
    in_outcome_unit: bool = False
    factor: float = 1.0
    decimals: int = 3

    def exact(
        self, observed: Observed, predicted: Prediction, grid: weighted.Grid = ()
    ) -> float | None:
        """Return the metric of n patients; None where it is undefined."""
        if self.needs_curve and predicted.survival is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ones = np.ones((len(observed.value), 1))
            (value,) = self.of(observed, predicted, ones, grid)
        return float(value) if np.isfinite(value) else None


_ALL = (
    Metric(
        name="mae",
        of=weighted.mean(lambda value, predicted: np.abs(predicted - value)),
        statistic=lambda study: Mean(
            lambda judged: error(judged, study.error_bound), scale=study.error_bound
        ),
        lower_is_better=True,
        title="mean error",
        says="is off by {} on average",
        meaning="mean absolute error: how far the prediction lies from the truth, on average",
        in_outcome_unit=True,
    ),
    Metric(
        name="rmse",
        of=weighted.rmse,
        statistic=lambda study: Mean(
            lambda judged: np.square(error(judged, study.error_bound)),
            scale=study.error_bound**2,
            root=True,
        ),
        lower_is_better=True,
        title="RMSE",
        says="has a root-mean-square error of {}",
        meaning="root-mean-square error: like the mean error, but large errors weigh more",
        in_outcome_unit=True,
    ),
    Metric(
        name="within_20",
        of=weighted.mean(
            lambda value, predicted: (np.abs(predicted - value) <= 0.2 * np.abs(value)).astype(
                np.float64
            )
        ),
        statistic=lambda _: Mean(is_within_20, yes_or_no=True),
        title="share within 20 %",
        says="comes within 20 % of the truth for {} of the patients",
        meaning="share of patients whose prediction lies within 20 % of the truth",
        unit="%",
        factor=100.0,
        decimals=1,
    ),
    Metric(
        name="accuracy",
        of=weighted.mean(
            lambda value, predicted: ((predicted > 0.5) == (value > 0.5)).astype(np.float64)
        ),
        statistic=lambda _: Mean(is_right, yes_or_no=True),
        title="accuracy",
        says="is right for {} of the patients",
        meaning="share of patients for whom the likelier answer is the true one",
        unit="%",
        factor=100.0,
        decimals=1,
    ),
    Metric(
        name="auc",
        of=weighted.auc,
        statistic=binary_histogram,
        title="AUC",
        says="tells patients apart with an area under the ROC curve of {} "
        "(0.5 is chance, 1 is perfect)",
        meaning="of two patients, one with and one without the outcome: how often the first gets "
        "the higher probability (0.5 is chance, 1 is perfect)",
    ),
    Metric(
        name="brier",
        of=weighted.mean(weighted.square),
        statistic=lambda _: Mean(lambda judged: np.square(error(judged, 1.0))),
        lower_is_better=True,
        title="Brier score",
        says="predicts probabilities with a Brier score of {} (0 is perfect)",
        meaning="mean squared distance between predicted probability and outcome (0 is perfect)",
    ),
    Metric(
        name="c_index",
        of=weighted.concordance,
        statistic=survival_histogram,
        title="C-index",
        says="ranks patients by risk with a C-index of {} (0.5 is chance, 1 is perfect)",
        meaning="Harrell's concordance: of two comparable patients, how often the one with the "
        "higher predicted risk has the earlier event (0.5 is chance, 1 is perfect)",
    ),
    Metric(
        name="td_auc",
        of=weighted.td_auc,
        statistic=survival_histogram,
        title="time-dependent AUC",
        says="tells who has the event by a time with an area under the ROC curve of {} "
        "(0.5 is chance, 1 is perfect)",
        meaning="of two patients, one with the event by a time of the grid and one without it "
        "then: how often the first has the higher predicted risk, over all times (0.5 is chance, "
        "1 is perfect); whose follow-up ends before is stood for by those who are seen (IPCW)",
    ),
    Metric(
        name="ibs",
        of=weighted.ibs,
        statistic=survival_histogram,
        lower_is_better=True,
        needs_curve=True,
        title="integrated Brier score",
        says="predicts survival with an integrated Brier score of {} (0 is perfect)",
        meaning="mean squared distance between predicted survival and whether a patient is without "
        "the event, averaged over time up to the end of the grid (0 is perfect); whose follow-up "
        "ends before is stood for by those who are seen (IPCW)",
    ),
)
METRICS = {metric.name: metric for metric in _ALL}
"""All metrics by name, in the order of results."""
