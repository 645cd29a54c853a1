"""A prediction as what happens to a hundred patients: sentence, table, curve and circles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polyclinic_common.bedside.pictures import Curve, Icon, curve, icons
from polyclinic_common.bundle.answers import per_hundred
from polyclinic_common.bundle.figures import Table
from polyclinic_common.bundle.interval import Interval
from polyclinic_common.bundle.outcome_words import YES, event_in_words
from polyclinic_common.bundle.predictor import Predicted
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival

LIKE, ALL = "In 100 patients like this one", "In 100 patients of every kind"


@dataclass(frozen=True)
class Hundred:
    """What happens to a hundred patients.

    Attributes
    ----------
    title : str
        Which patients: those like this one, or, of a number's interval, all of them.
    text : str
        The same in a sentence.
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

    title: str
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
        ALL,
        f"Of 100 patients, about {inside} have a {what} within an interval made like this one, "
        f"and {outside} do not: of all patients together, not only of those like this patient.",
        inside,
        _table(
            ALL,
            "Where the outcome lies",
            ("within the interval", str(inside)),
            ("outside", str(outside)),
        ),
        icons(inside),
        "within the interval",
        "outside",
    )


def _yes_or_no(study: Study, outcome: Binary, chance: float) -> Hundred:
    event = event_in_words(study)
    having, rest = per_hundred(chance), per_hundred(1.0 - chance)
    other = f"no {event}" if outcome.positive in YES else f"{outcome.column}: {outcome.negative}"
    return Hundred(
        LIKE,
        f"Of 100 patients like this one, {having} have {event}, and {rest} do not.",
        of_hundred(chance),
        _table(LIKE, "Outcome", (event, having), (other, rest)),
        icons(of_hundred(chance)),
        event,
        other,
    )


def _course(study: Study, outcome: Survival, shares: Vector) -> Hundred:
    event, unit, end = event_in_words(study), outcome.unit, outcome.grid[-1]
    told = [(per_hundred(float(share)), per_hundred(1.0 - float(share))) for share in shares]
    rows = tuple((f"{time:g} {unit}", *both) for time, both in zip(outcome.grid, told, strict=True))
    free, rest = told[-1]
    return Hundred(
        LIKE,
        f"Of 100 patients like this one, {free} are free of {event} after {end:g} {unit}, and "
        f"{rest} are not.",
        of_hundred(float(shares[-1])),
        Table(
            caption=f"{LIKE}, at each time", columns=("After", "Free of it", "With it"), rows=rows
        ),
        icons(of_hundred(float(shares[-1]))),
        f"free of {event} after {end:g} {unit}",
        "not",
        curve(outcome.grid, [float(share) for share in shares], unit),
    )


def _table(title: str, first: str, *rows: tuple[str, str]) -> Table:
    return Table(caption=title, columns=(first, "Patients"), rows=rows)


def of_hundred(share: float) -> int:
    """Return a probability as so many of 100: filled circles."""
    return round(100.0 * share)


def percent(share: float) -> str:
    """Return a probability in per cent; below one and above 99 as that."""
    return f"{per_hundred(share)} %"


def curve_of(predicted: Predicted) -> Vector:
    """Return the survival curve of the patient, shape (K,)."""
    if predicted.prediction.survival is None:
        raise ValueError("no survival curve was predicted")
    return np.asarray(predicted.prediction.survival[0])
