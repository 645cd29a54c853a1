"""A prediction as what happens to a hundred patients: sentence, table, curve and circles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from polyclinic_common.bedside.pictures import Curve, Icon, curve, icons
from polyclinic_common.bundle.figures import Table
from polyclinic_common.bundle.interval import Interval
from polyclinic_common.bundle.outcome_words import YES, event_in_words
from polyclinic_common.bundle.predictor import Predicted
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival

LIKE = "In 100 patients like this one"


@dataclass(frozen=True)
class Hundred:
    """What happens to a hundred patients like this one.

    Attributes
    ----------
    text : str
        In a sentence.
    count : int
        How many of them.
    table : Table
        The same as numbers.
    icons : tuple of Icon
        The same as a hundred circles.
    filled, empty : str
        What a filled circle means, and an empty one.
    curve : Curve, optional
        Of survival.
    """

    text: str
    count: int
    table: Table
    icons: tuple[Icon, ...]
    filled: str
    empty: str
    curve: Curve | None = None


def hundred(predicted: Predicted, interval: Interval | None) -> Hundred | None:
    """Return what is said of a hundred patients; None where nothing can be."""
    study, outcome = predicted.study, predicted.study.outcome
    if isinstance(outcome, Continuous):
        return _within(interval, event_in_words(study))
    if isinstance(outcome, Binary):
        return _yes_or_no(study, outcome, float(predicted.prediction.value[0]))
    return _course(study, outcome, curve_of(predicted))


def _within(interval: Interval | None, what: str) -> Hundred | None:
    if interval is None or interval.level is None:
        return None
    inside = of_hundred(interval.level)
    outside = 100 - inside
    return Hundred(
        f"In about {inside} of 100 patients like this one the {what} lies within the interval "
        f"below; in {outside} it lies outside.",
        inside,
        _table("Where the outcome lies", ("within the interval", inside), ("outside", outside)),
        icons(inside),
        "within the interval",
        "outside",
    )


def _yes_or_no(study: Study, outcome: Binary, chance: float) -> Hundred:
    having, event = of_hundred(chance), event_in_words(study)
    other = f"no {event}" if outcome.positive in YES else f"{outcome.column}: {outcome.negative}"
    return Hundred(
        f"Of 100 patients like this one, about {having} have {event}, and {100 - having} do not.",
        having,
        _table("Outcome", (event, having), (other, 100 - having)),
        icons(having),
        event,
        other,
    )


def _course(study: Study, outcome: Survival, shares: Vector) -> Hundred:
    event, unit, end = event_in_words(study), outcome.unit, outcome.grid[-1]
    free = [of_hundred(float(share)) for share in shares]
    rows = tuple(
        (f"{time:g} {unit}", str(count), str(100 - count))
        for time, count in zip(outcome.grid, free, strict=True)
    )
    return Hundred(
        f"Of 100 patients like this one, about {free[-1]} are free of {event} after {end:g} "
        f"{unit}, and {100 - free[-1]} are not.",
        free[-1],
        Table(
            caption=f"{LIKE}, at each time", columns=("After", "Free of it", "With it"), rows=rows
        ),
        icons(free[-1]),
        f"free of {event} after {end:g} {unit}",
        "not",
        curve(outcome.grid, [float(share) for share in shares], unit),
    )


def _table(first: str, *rows: tuple[str, int]) -> Table:
    counted = tuple((what, str(count)) for what, count in rows)
    return Table(caption=LIKE, columns=(first, "Patients"), rows=counted)


def of_hundred(share: float) -> int:
    """Return a probability as so many of 100, rounded half up."""
    return math.floor(100.0 * share + 0.5)


def percent(share: float) -> str:
    """Return a probability in per cent; never as impossible or certain."""
    whole = of_hundred(share)
    return "less than 1 %" if whole < 1 else "more than 99 %" if whole > 99 else f"{whole} %"


def curve_of(predicted: Predicted) -> Vector:
    """Return the survival curve of the patient, shape (K,)."""
    if predicted.prediction.survival is None:
        raise ValueError("no survival curve was predicted")
    return np.asarray(predicted.prediction.survival[0])
