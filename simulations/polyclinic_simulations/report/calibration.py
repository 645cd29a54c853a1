"""How far predictions lie from what was observed, and a warning where that is clearly too far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Continuous
from polyclinic_simulations.comparison import Comparison
from polyclinic_simulations.results import CalibrationBin, Cell

LEAST_MISS = 0.05
TIMES_CHANCE = 2.0
STEEP = 1.25


def pool_bins(cells: Sequence[Cell]) -> list[CalibrationBin]:
    """Pool the bins of all seeds: the lowest of each together, and so on, patients weighted."""
    sorted_bins = [
        sorted((b for b in cell.figures.calibration if b.patients > 0), key=lambda b: b.predicted)
        for cell in cells
    ]
    pooled = []
    for group in zip_longest(*sorted_bins):
        bins = [b for b in group if b is not None]
        weights = [b.patients for b in bins]
        pooled.append(
            CalibrationBin(
                predicted=float(np.average([b.predicted for b in bins], weights=weights)),
                observed=float(np.average([b.observed for b in bins], weights=weights)),
                patients=sum(weights),
            )
        )
    return pooled


def miss_words(study: Study, bins: Sequence[CalibrationBin]) -> str:
    """Return the mean distance between predicted and observed with its unit."""
    if isinstance(study.outcome, Continuous):
        return f"{_miss(bins):.3g} {study.outcome.unit}"
    return f"{100 * _miss(bins):.1f} percentage points"


def _miss(bins: Sequence[CalibrationBin]) -> float:
    weights = [b.patients for b in bins]
    return float(np.average([abs(b.predicted - b.observed) for b in bins], weights=weights))


def warning(study: Study, comparison: Comparison) -> str:
    """Warn where the headline's probabilities are clearly off; empty where they are not.

    Clearly: by five percentage points, and by twice what chance makes of perfect predictions in
    bins as large as those of one run.
    """
    head, other = comparison.headline, comparison.open
    bins = pool_bins(head.cells)
    without = [] if other is None or other is head else pool_bins(other.cells)
    if isinstance(study.outcome, Continuous) or not bins:
        return ""
    chance = _miss_by_chance(bins, len(head.cells))
    if _miss(bins) <= max(LEAST_MISS, TIMES_CHANCE * chance):
        return ""
    beside = f" Without privacy it is {miss_words(study, without)}." if without else ""
    return (
        f"The predicted probabilities are clearly off ({head.label}): on average they lie "
        f"{miss_words(study, bins)} from what was observed; chance alone would make "
        f"{100 * chance:.1f}.{beside} They may put patients into the right order, but they must "
        f"not be read as probabilities. {_direction(bins)}"
    )


def _miss_by_chance(bins: Sequence[CalibrationBin], runs: int) -> float:
    """Return the mean distance to expect of perfect predictions: sqrt(2 / pi) standard errors."""
    predicted = np.clip([b.predicted for b in bins], 0.0, 1.0)
    patients = np.array([b.patients for b in bins])
    errors = np.sqrt(2.0 / np.pi * predicted * (1.0 - predicted) / (patients / runs))
    return float(np.average(errors, weights=patients))


def _direction(bins: Sequence[CalibrationBin]) -> str:
    """Say which way they are off, by the slope of observed against predicted."""
    predicted = np.array([b.predicted for b in bins])
    observed = np.array([b.observed for b in bins])
    weights = np.array([b.patients for b in bins])
    centred = predicted - np.average(predicted, weights=weights)
    rise, run = np.sum(weights * centred * observed), np.sum(weights * centred**2)
    if rise > STEEP * run:
        return "They lie too close together: high risks are higher than predicted, low ones lower."
    if rise < run / STEEP:
        return "They lie too far apart: high risks are lower than predicted, low ones higher."
    return f"They are too {'high' if np.sum(weights * (predicted - observed)) > 0 else 'low'}."
