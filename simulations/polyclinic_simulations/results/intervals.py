"""Differences between models, with intervals that hold sampling and noise."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from polyclinic_simulations.results.results import Scores

Floats = NDArray[np.float64]
UPPER = 0.975
MANY = 1e9


@dataclass(frozen=True)
class Gap:
    """A mean over runs with its sampling and noise.

    Attributes
    ----------
    values : tuple of float
        One a run.
    sampling : float or None
        Variance of the mean with other test patients; None where no resamples were kept.
    noise : float or None
        Variance of the mean over noise draws, and splits where these differ; None where it cannot
        be known, of a single run with noise.
    """

    values: tuple[float, ...]
    sampling: float | None
    noise: float | None

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return float(np.mean(self.values))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval; None where a part of its width is unknown."""
        if self.sampling is None or self.noise is None:
            return None
        half = half_width(self.sampling, self.noise, len(self.values))
        return self.mean - half, self.mean + half

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        if self.interval is None:
            return False
        low, high = self.interval
        return low > 0.0 or high < 0.0


def half_width(sampling: float, noise: float, runs: int) -> float:
    """Return half of a 95 % interval around a mean with two independent parts of variance.

    Quantile of Student's t with the degrees of freedom of Welch and Satterthwaite: those of the
    sampling variance are many, those of the noise `runs` - 1. Where the split is drawn anew in each
    run its variance is in both parts: the interval is then too wide, never too narrow.
    """
    total = sampling + noise
    if total == 0.0:
        return 0.0
    freedom = MANY if noise == 0.0 else min(MANY, (runs - 1) * (total / noise) ** 2)
    return float(stdtrit(freedom, UPPER)) * math.sqrt(total)


def gap(pairs: list[tuple[Scores, Scores | None]], metric: str, *, noiseless: bool) -> Gap | None:
    """Return the metric of the first scores minus that of the second, run by run.

    Parameters
    ----------
    pairs : list of pairs of Scores
        The same test patients in each; without second scores nothing is taken off.
    noiseless : bool
        Whether every run would give the same.

    Returns
    -------
    Gap or None
        None where no run has both.
    """
    known = [
        (left, right)
        for left, right in pairs
        if _value(left, metric) is not None and _value(right, metric) is not None
    ]
    if not known:
        return None
    values = tuple(
        (_value(left, metric) or 0.0) - (_value(right, metric) or 0.0) for left, right in known
    )
    noise = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else None
    return Gap(values, _sampling(known, metric), 0.0 if noiseless else noise)


def _value(scores: Scores | None, metric: str) -> float | None:
    return 0.0 if scores is None else scores.overall.get(metric)


def _sampling(pairs: list[tuple[Scores, Scores | None]], metric: str) -> float | None:
    """Return the variance over resamples of the mean over runs: a patient is drawn for all runs."""
    drawn = [(_drawn(left, metric), _drawn(right, metric)) for left, right in pairs]
    if any(left.size == 0 or right.size == 0 for left, right in drawn):
        return None
    differences = np.stack([left - right for left, right in drawn])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # resamples in which nothing is defined
        means = np.nanmean(differences, axis=0)
    defined = means[~np.isnan(means)]
    return float(np.var(defined, ddof=1)) if defined.size > 1 else None


def _drawn(scores: Scores | None, metric: str) -> Floats:
    if scores is None:
        return np.zeros(1)
    return np.array(scores.resampled.get(metric, []), dtype=np.float64)
