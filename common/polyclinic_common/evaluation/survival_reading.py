"""Survival figures with 95 % intervals, from the noisy cells of one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polyclinic_common.evaluation.interval import CLEAR_AT_RISK, CLEAR_PAIRS, MOST_BLUR, Reading, Z
from polyclinic_common.evaluation.observed import Rows
from polyclinic_common.evaluation.statistic import RiskHistogram
from polyclinic_common.evaluation.survival import Estimate, Floats


@dataclass(frozen=True)
class RiskReading:
    """Survival of one risk bin up to a time: predicted for its mean risk, and observed."""

    predicted: float | None
    observed: Reading | None


@dataclass(frozen=True)
class TimeReading:
    """Survival: what is known of a time bin that ends at `end`.

    Attributes
    ----------
    end : float
        Its right end, a time of the study's grid.
    at_risk, events : float
        Patients at risk at its start, and its events.
    observed : Reading or None
        Share of patients without the event at its end (Kaplan-Meier).
    predicted : float or None
        The mean of what was predicted for that.
    auc : Reading or None
        Time-dependent AUC at its end.
    by_risk : tuple of RiskReading
        Calibration by risk bin, the lowest risk first.
    """

    end: float
    at_risk: float
    events: float
    observed: Reading | None = None
    predicted: float | None = None
    auc: Reading | None = None
    by_risk: tuple[RiskReading, ...] = ()


def read_survival(
    found: Mapping[str, Estimate], cells: Floats, noise: float
) -> dict[str, Reading | None]:
    """Return time-dependent AUC and integrated Brier score.

    None where the number of patients at risk in the last time bin, or that of pairs, is not clear
    of its noise: until then everybody's weight rests on it.
    """
    followed = bool(_clear_times(found, noise)[-1])
    paired = followed and _is_clear(found["pairs"], noise, CLEAR_PAIRS).item()
    return {
        "td_auc": _reading(found["td_auc"], cells, noise, ()) if paired else None,
        "ibs": _reading(found["ibs"], cells, noise, ()) if followed and "ibs" in found else None,
    }


def _is_clear(counted: Estimate, noise: float, deviations: float, least: float = 0.0) -> Rows:
    """Say which noisy numbers are at least so many standard deviations of their noise."""
    with np.errstate(invalid="ignore"):
        found = counted.value > np.maximum(deviations * counted.blur(noise), least)
    return np.asarray(found)


def _clear_times(found: Mapping[str, Estimate], noise: float) -> Rows:
    """Say which time bins start with a number at risk that is clear of its noise, and all before.

    Shape (T,).
    """
    return np.logical_and.accumulate(_is_clear(found["at_risk"], noise, CLEAR_AT_RISK))


def _are_placed(found: Mapping[str, Estimate], noise: float) -> Rows:
    """Say at which times the noise moves no share of patients in a risk bin by much; shape (T,).

    How much hardly depends on the share: asking for more where shares are small would show the
    times at which noise made them large.
    """
    with np.errstate(invalid="ignore"):
        known = found["shares_at"].blur(noise) <= MOST_BLUR
    return np.asarray(known.all(axis=(1, 2)))


def _reading(each: Estimate, cells: Floats, noise: float, place: tuple[int, ...]) -> Reading:
    """Return one of several figures, all within [0, 1], with its interval."""
    value = float(each.value[place])
    half = Z * float(each.deviation(cells, noise)[place])
    low, high = np.clip([value - half, value + half], 0.0, 1.0)
    return Reading(float(np.clip(value, 0.0, 1.0)), float(low), float(high))


def read_times(
    histogram: RiskHistogram,
    cells: Floats,
    noise: float,
    found: Mapping[str, Estimate],
    smallest: int,
) -> tuple[TimeReading, ...]:
    """Return what is known time bin by time bin; numbers of patients are noisy."""
    events = cells.reshape(histogram.bins, histogram.outcomes).sum(axis=0)
    clear = _clear_times(found, noise)
    paired = clear & _is_clear(found["pairs_at"], noise, CLEAR_PAIRS) & _are_placed(found, noise)
    predicted = found["predicted"].value if "predicted" in found else None
    by_risk = _by_risk(histogram, cells, noise, found, smallest)
    return tuple(
        TimeReading(
            end,
            float(found["at_risk"].value[index]),
            float(events[index]),
            _reading(found["observed"], cells, noise, (index,)) if clear[index] else None,
            None if predicted is None else float(predicted[index]),
            _reading(found["auc_at"], cells, noise, (index,)) if paired[index] else None,
            by_risk[index],
        )
        for index, end in enumerate(histogram.ends)
    )


def _by_risk(
    histogram: RiskHistogram,
    cells: Floats,
    noise: float,
    found: Mapping[str, Estimate],
    smallest: int,
) -> list[tuple[RiskReading, ...]]:
    """Return predicted and observed survival of every risk bin, by time bin."""
    shown = _is_clear(found["at_risk_in"], noise, CLEAR_AT_RISK, smallest)
    shown = np.logical_and.accumulate(shown, axis=-1)
    predicted = found["predicted_in"].value if "predicted_in" in found else None
    return [
        tuple(
            RiskReading(
                None if predicted is None else float(predicted[risk, time]),
                _reading(found["observed_in"], cells, noise, (risk, time))
                if shown[risk, time]
                else None,
            )
            for risk in range(histogram.bins)
        )
        for time in range(len(histogram.ends))
    ]
