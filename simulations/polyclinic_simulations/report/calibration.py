"""How far probabilities lie from what was observed: in total, by fifth, and by their slope.

What is called off is relative: a probability of 10 % where 20 % have the outcome is as wrong as
one of 40 % where 80 % have it, and both must be beyond what sampling and noise explain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

import numpy as np

from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Continuous
from polyclinic_simulations.report.comparison import Line
from polyclinic_simulations.results.intervals import half_width
from polyclinic_simulations.results.reliability import logistic_slope, logit
from polyclinic_simulations.results.results import CalibrationBin, Cell, Counted, Reliability

Place = TypeVar("Place", int, float)

TOTAL_TIMES = 1.2
FIFTH_TIMES = 1.5
FIFTH_INTERVALS = 1.5  # of five fifths one is beyond a 95 % interval by chance in a quarter of runs
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


@dataclass(frozen=True)
class Count:
    """Expected and observed outcomes of one run, on average over the runs.

    `half` is half of the 95 % interval of their difference: sampling, and noise between runs.
    """

    patients: float
    expected: float
    observed: float
    half: float

    @property
    def ratio(self) -> float:
        """Predicted, of what was observed."""
        return self.expected / self.observed if self.observed > 0.0 else float("inf")

    @property
    def times(self) -> float:
        """How many times too high or too low; half a patient is added on both sides.

        Of those with the outcome or of those without it, whichever is worse.
        """
        with_it = (self.expected + 0.5) / (self.observed + 0.5)
        without = (self.patients - self.expected + 0.5) / (self.patients - self.observed + 0.5)
        return max(with_it, 1.0 / with_it, without, 1.0 / without)

    def off(self, times: float, intervals: float = 1.0) -> bool:
        """Whether it is off by so many times, and by more than so many half intervals."""
        apart = abs(self.expected - self.observed)
        return self.times > times and apart > intervals * self.half


@dataclass(frozen=True)
class Calibration:
    """Probabilities of one setting against what came true, over its runs.

    `times` are those with an event by each time of the grid (survival).
    """

    total: Count
    fifths: tuple[Count, ...]
    slope: float | None
    slope_half: float | None
    times: tuple[tuple[float, Count], ...] = ()

    @property
    def too_flat(self) -> bool:
        """Whether predictions clearly lie too close together."""
        return self._slope_beyond(above=True)

    @property
    def too_steep(self) -> bool:
        """Whether predictions clearly lie too far apart."""
        return self._slope_beyond(above=False)

    @property
    def total_off(self) -> bool:
        """Whether predictions are clearly too high or too low in total."""
        return self.total.off(TOTAL_TIMES)

    @property
    def worst_fifth(self) -> tuple[int, Count] | None:
        """The fifth that is off by the most times, with its place from 0; None if none clearly."""
        return _worst(enumerate(self.fifths))

    @property
    def worst_time(self) -> tuple[float, Count] | None:
        """The time of the grid by which events are off by the most times; None if none clearly."""
        return _worst(self.times)

    @property
    def off(self) -> bool:
        """Whether the probabilities must not be read as such."""
        bent = self.too_flat or self.too_steep
        part = self.worst_fifth is not None or self.worst_time is not None
        return bent or self.total_off or part

    def _slope_beyond(self, *, above: bool) -> bool:
        if self.slope is None or self.slope_half is None:
            return False
        if above:
            return self.slope > STEEP and self.slope - self.slope_half > 1.0
        return self.slope < 1.0 / STEEP and self.slope + self.slope_half < 1.0


def _worst(counts: Iterable[tuple[Place, Count]]) -> tuple[Place, Count] | None:
    off = [each for each in counts if each[1].off(FIFTH_TIMES, FIFTH_INTERVALS)]
    return max(off, key=lambda each: each[1].times, default=None)


def calibration_of(study: Study, line: Line) -> Calibration | None:
    """Return how far the probabilities of a setting are off; None where it gives none."""
    runs = [found for cell in line.cells if (found := _reliability(cell)) and found.fifths]
    if isinstance(study.outcome, Continuous) or not runs:
        return None
    places = min(len(run.fifths) for run in runs)
    fifths = tuple(_count([(run.fifths[place],) for run in runs]) for place in range(places))
    slopes = [(run.slope, run.slope_error) for run in runs]
    total = _count([tuple(run.fifths) for run in runs])
    return Calibration(total, fifths, *_mean_slope(slopes), _times(runs))


def _times(runs: Sequence[Reliability]) -> tuple[tuple[float, Count], ...]:
    """Count patients with an event by each time; censoring makes chance a little larger than this.

    The variance is that of so many patients without censoring.
    """
    found = []
    for place in range(min(len(run.by_time) for run in runs)):
        counted = []
        for run in runs:
            at, patients = run.by_time[place], sum(each.patients for each in run.fifths)
            expected, observed = patients * at.predicted, patients * at.observed
            variance = expected * (1.0 - at.predicted)
            one = Counted(
                patients=patients, expected=expected, observed=observed, variance=variance
            )
            counted.append((one,))
        found.append((runs[0].by_time[place].time, _count(counted)))
    return tuple(found)


def _reliability(cell: Cell) -> Reliability | None:
    """Return what a run kept; in results of earlier versions what its bins tell."""
    if cell.figures.reliability is not None:
        return cell.figures.reliability
    bins = sorted((b for b in cell.figures.calibration if b.patients), key=lambda b: b.predicted)
    if not bins:
        return None
    predicted = np.clip([b.predicted for b in bins], 0.0, 1.0)
    patients = np.array([float(b.patients) for b in bins])
    slope, error = logistic_slope(
        logit(predicted), np.clip([b.observed for b in bins], 0.0, 1.0), patients
    )
    return Reliability(
        fifths=[
            Counted(
                patients=each.patients,
                expected=each.patients * each.predicted,
                observed=each.patients * each.observed,
                variance=float(each.patients * share * (1.0 - share)),
            )
            for each, share in zip(bins, predicted, strict=True)
        ],
        slope=slope,
        slope_error=error,
    )


def _count(runs: Sequence[tuple[Counted, ...]]) -> Count:
    """Add up within each run, and take the mean over runs."""
    patients, expected, observed, variance = (
        np.array([sum(getattr(each, name) for each in run) for run in runs], dtype=np.float64)
        for name in ("patients", "expected", "observed", "variance")
    )
    noise = float(np.var(expected - observed, ddof=1)) / len(runs) if len(runs) > 1 else 0.0
    return Count(
        patients=float(patients.mean()),
        expected=float(expected.mean()),
        observed=float(observed.mean()),
        half=half_width(float(variance.mean()), noise, len(runs)),
    )


def _mean_slope(
    runs: Sequence[tuple[float | None, float | None]],
) -> tuple[float | None, float | None]:
    """Return the mean slope with half its 95 % interval; test patients count once."""
    known = [(slope, error) for slope, error in runs if slope is not None and error is not None]
    if not known:
        return None, None
    slopes, errors = np.array(known).T
    noise = float(np.var(slopes, ddof=1)) / len(known) if len(known) > 1 else 0.0
    half = half_width(float(np.mean(np.square(errors))), noise, len(known))
    return float(slopes.mean()), half
