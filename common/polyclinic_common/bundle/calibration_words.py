"""What a hospital found about a model, as a table for people."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polyclinic_common.bundle import conformal
from polyclinic_common.bundle.local_calibration import (
    Bins,
    Curves,
    LocalCalibration,
    ObservedShare,
    VennAbers,
    Width,
)
from polyclinic_common.bundle.observed_rates import wilson
from polyclinic_common.bundle.refit import Refit
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, Survival

EXAMPLES = np.array([0.25, 0.5, 0.75])  # of the way through the public range
CHANCES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def titles_of(study: Study, found: LocalCalibration) -> tuple[str, ...]:
    """Return the heads of the table's columns."""
    match found.found:
        case Width() if isinstance(study.outcome, Continuous):
            return (f"predicted ({study.outcome.unit})", "interval")
        case VennAbers():
            return ("predicted", "fitted here, counted as one without", "counted as one with")
        case Curves() as curves:
            last = len(curves.patients)
            risks = (f"risk group {group} of {last}" for group in range(1, last + 1))
            named = (f"{risk}, {n}" for risk, n in zip(risks, curves.patients, strict=True))
            return ("observed event-free at", *named)
    return ("predicted", "patients", "with the outcome", "interval")


def rows_of(study: Study, found: LocalCalibration) -> Iterator[tuple[str, ...]]:
    """Yield the table's rows: intervals of some predictions, or what was observed by group."""
    match found.found:
        case Width(half_width=half) if isinstance(study.outcome, Continuous):
            low, high = study.outcome.range
            middle = low + EXAMPLES * (high - low)
            ends = zip(middle, *conformal.bounds(study.outcome, middle, half), strict=True)
            yield from ((f"{m:.3g}", f"{a:.3g} to {b:.3g}") for m, a, b in ends)
        case VennAbers() as fits:
            pairs = zip(CHANCES, *fits.steps.at(CHANCES), strict=True)
            yield from ((f"{p:.0%}", f"{a:.1%}", f"{b:.1%}") for p, a, b in pairs)
        case Bins() as bins:
            yield from _bins(found, bins)
        case Curves() as curves if isinstance(study.outcome, Survival):
            yield from _curves(study.outcome, curves)


def refit_words(refit: Refit) -> str:
    """Say what became of level and slope."""
    on = f"on {refit.patients} patients"
    if refit.changed == "nothing":
        return (
            f"Level and slope, fitted {on}, fit no better than the released model by more than "
            "chance: nothing is changed."
        )
    slope = f", slope {refit.slope:.2f}" if refit.changed == "level and slope" else ""
    return (
        f"Recalibrated here {on}: {refit.changed} (level {refit.shift:+.3g} on the model's scale"
        f"{slope}). Predictions shown here are no longer those of the released model."
    )


def _bins(found: LocalCalibration, bins: Bins) -> Iterator[tuple[str, ...]]:
    ends = (0.0, *bins.edges, 1.0)
    for index, (patients, having) in enumerate(zip(bins.patients, bins.having, strict=True)):
        share = wilson(having / patients, patients, found.alpha)
        yield (
            f"{ends[index]:.0%} to {ends[index + 1]:.0%}",
            str(patients),
            f"{having} ({share.value:.0%})",
            f"{share.low:.0%} to {share.high:.0%}",
        )


def _curves(outcome: Survival, curves: Curves) -> Iterator[tuple[str, ...]]:
    """Yield a row a time: by group, the lowest risk first."""
    for end, observed in zip(outcome.grid, zip(*curves.observed, strict=True), strict=True):
        yield (f"{end:g} {outcome.unit}", *map(_observed, observed))


def _observed(share: ObservedShare | None) -> str:
    if share is None:
        return "too few followed"
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"
