"""What the page says about one patient: plain texts, tables and numbers for the template to print.

Nothing is computed here but roundings: predictions, reasons and intervals come as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyclinic_common.bedside.pictures import Bar, Curve, Icon, bar_of, curve, icons
from polyclinic_common.bundle.flags import Flag, FlagKind
from polyclinic_common.bundle.outcome_words import YES, event_in_words, in_words, number
from polyclinic_common.bundle.predictor import Predicted, restricted_mean
from polyclinic_common.bundle.reasons import Reason, Reasons
from polyclinic_common.bundle.similar import Similar
from polyclinic_common.rowwise import expit
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival

MINUS = "\u2212"


@dataclass(frozen=True)
class Table:
    """A table: its first column names the rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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


@dataclass(frozen=True)
class Interval:
    """How far the truth may lie from the prediction, and how that is known.

    Attributes
    ----------
    text, how : str
        The interval in a sentence, and how it came about.
    is_approximate : bool
        Whether it is not this hospital's own.
    covers : int or None
        Of a number: in how many of 100 patients the truth lies within.
    """

    text: str
    how: str
    is_approximate: bool
    covers: int | None = None


@dataclass(frozen=True)
class ReasonRow:
    """What one feature adds to this prediction.

    Attributes
    ----------
    label, value, typical : str
        The feature, what the model reads of this patient, and what the typical patient has.
    words : str
        What the difference adds, with its unit, and in which direction.
    bar : Bar
        The same as a bar.
    """

    label: str
    value: str
    typical: str
    words: str
    bar: Bar


@dataclass(frozen=True)
class ReasonTable:
    """Why the model says so: what reasons are counted from, and they, largest first."""

    about: tuple[str, ...]
    rows: tuple[ReasonRow, ...]


@dataclass(frozen=True)
class ResultView:
    """Everything about one patient, in the order in which the page shows it.

    Attributes
    ----------
    title, figure : str
        What is predicted, and the prediction; no figure where none may be given.
    notes : tuple of str
        What has to be read with it.
    hundred : Hundred or None
        Of a hundred patients.
    interval : Interval or None
        None where nothing is known.
    reasons : ReasonTable or None
        Why.
    missing, clamped, not_covered : tuple of str
        What the model did not know, or reads otherwise than it was entered.
    similar : Similar or None
        This hospital's own patients, where its table was given.
    """

    title: str
    figure: str
    notes: tuple[str, ...]
    hundred: Hundred | None
    interval: Interval | None
    reasons: ReasonTable | None
    missing: tuple[str, ...]
    clamped: tuple[str, ...]
    not_covered: tuple[str, ...]
    similar: Similar | None


def result_view(
    predicted: Predicted,
    reasons: Reasons | None = None,
    interval: Interval | None = None,
    similar: Similar | None = None,
    notes: Sequence[str] = (),
) -> ResultView:
    """Return what the page says about the one patient of `predicted`.

    Parameters
    ----------
    notes : sequence of str
        What else has to be read with the prediction.
    """
    study, given = predicted.study, bool(predicted.given[0])
    return ResultView(
        title=predicted_title(study),
        figure=_figure(predicted) if given else "",
        notes=(*(_notes(predicted) if given else ()), *notes),
        hundred=_hundred(predicted, interval) if given else None,
        interval=interval if given else None,
        reasons=_reasons(reasons) if given and reasons is not None else None,
        missing=_flagged(predicted, "missing"),
        clamped=_flagged(predicted, "clamped"),
        not_covered=_flagged(predicted, "not covered"),
        similar=similar,
    )


def predicted_title(study: Study) -> str:
    """Return what is predicted, as a heading."""
    outcome, event = study.outcome, event_in_words(study)
    if isinstance(outcome, Survival):
        return f"Predicted course: free of {event}"
    return f"Predicted {'probability of ' if isinstance(outcome, Binary) else ''}{event}"


def per_hundred(share: float) -> int:
    """Return a probability as so many of 100, rounded half up."""
    return math.floor(100.0 * share + 0.5)


def percent(share: float) -> str:
    """Return a probability in per cent; never as impossible or certain."""
    whole = per_hundred(share)
    return "less than 1 %" if whole < 1 else "more than 99 %" if whole > 99 else f"{whole} %"


def _figure(predicted: Predicted) -> str:
    outcome, made = predicted.study.outcome, predicted.prediction
    if isinstance(outcome, Continuous):
        return number(float(made.value[0]), outcome)
    if isinstance(outcome, Binary):
        return percent(float(made.value[0]))
    share = percent(float(_curve_of(predicted)[-1]))
    return f"{share} after {outcome.grid[-1]:g} {outcome.unit}"


def _notes(predicted: Predicted) -> tuple[str, ...]:
    outcome = predicted.study.outcome
    if not isinstance(outcome, Survival):
        return ()
    mean = float(restricted_mean(outcome, _curve_of(predicted)[None, :])[0])
    return (
        f"On average {mean:.0f} of the first {outcome.grid[-1]:g} {outcome.unit} are spent free of "
        f"{event_in_words(predicted.study)}: the area under the curve, which is drawn straight "
        "between the times at which the model gives a value (restricted mean survival time).",
    )


def _curve_of(predicted: Predicted) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the survival curve of the patient, shape (K,)."""
    if predicted.prediction.survival is None:
        raise ValueError("no survival curve was predicted")
    return predicted.prediction.survival[0]


def _hundred(predicted: Predicted, interval: Interval | None) -> Hundred | None:
    study, outcome = predicted.study, predicted.study.outcome
    if isinstance(outcome, Continuous):
        return _within(interval, event_in_words(study))
    if isinstance(outcome, Binary):
        return _yes_or_no(study, outcome, float(predicted.prediction.value[0]))
    return _course(study, outcome, _curve_of(predicted))


def _within(interval: Interval | None, what: str) -> Hundred | None:
    if interval is None or interval.covers is None:
        return None
    inside, outside = interval.covers, 100 - interval.covers
    return Hundred(
        f"In about {inside} of 100 patients like this one the {what} lies within the interval "
        f"below; in {outside} it lies outside.",
        inside,
        Table(
            "In 100 patients like this one",
            ("Where the outcome lies", "Patients"),
            (("within the interval", str(inside)), ("outside", str(outside))),
        ),
        icons(inside),
        "within the interval",
        "outside",
    )


def _yes_or_no(study: Study, outcome: Binary, chance: float) -> Hundred:
    having, event = per_hundred(chance), event_in_words(study)
    other = f"no {event}" if outcome.positive in YES else f"{outcome.column}: {outcome.negative}"
    return Hundred(
        f"Of 100 patients like this one, about {having} have {event}, and {100 - having} do not.",
        having,
        Table(
            "In 100 patients like this one",
            ("Outcome", "Patients"),
            ((event, str(having)), (other, str(100 - having))),
        ),
        icons(having),
        event,
        other,
    )


def _course(study: Study, outcome: Survival, shares: Sequence[float]) -> Hundred:
    event, unit, end = event_in_words(study), outcome.unit, outcome.grid[-1]
    free = [per_hundred(float(share)) for share in shares]
    rows = tuple(
        (f"{time:g} {unit}", str(count), str(100 - count))
        for time, count in zip(outcome.grid, free, strict=True)
    )
    return Hundred(
        f"Of 100 patients like this one, about {free[-1]} are free of {event} after {end:g} "
        f"{unit}, and {100 - free[-1]} are not.",
        free[-1],
        Table(
            "In 100 patients like this one, at each time", ("After", "Free of it", "With it"), rows
        ),
        icons(free[-1]),
        f"free of {event} after {end:g} {unit}",
        "not",
        curve(outcome.grid, [float(share) for share in shares], unit),
    )


def _flagged(predicted: Predicted, kind: FlagKind) -> tuple[str, ...]:
    flags: tuple[Flag, ...] = predicted.flags[0]
    return tuple(flag.words for flag in flags if flag.kind == kind)


def _reasons(reasons: Reasons) -> ReasonTable:
    study, told = reasons.study, reasons.outcome
    about = [
        f"Counted from a typical patient, for whom the model says {_told(study, told.base)}. That "
        "patient is no average: every number is at the middle of its public range.",
    ]
    if not isinstance(study.outcome, Continuous):
        about.append(
            f"Contributions add up in {told.unit}; beside each stands by what it multiplies the "
            "odds."
        )
    if reasons.clamped[0]:
        about.append("The sum lies beyond the outcome’s range; the prediction is the range’s end.")
    rows = (
        ReasonRow(
            in_words(each.feature), each.value, each.typical, _adds(study, each), bar_of(bar.length)
        )
        for each, bar in zip(reasons.table(), reasons.bars(), strict=True)
    )
    return ReasonTable(tuple(about), tuple(rows))


def _told(study: Study, base: float) -> str:
    """Return what the model says of the typical patient."""
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        return number(base, outcome)
    if isinstance(outcome, Binary):
        return percent(float(expit(np.array([base]))[0]))
    return f"log odds of {base:.2f} in an interval"


def _adds(study: Study, reason: Reason) -> str:
    outcome, added = study.outcome, reason.contribution
    if isinstance(outcome, Continuous):
        told = number(abs(added), outcome)
        return f"{'+' if added >= 0 else MINUS}{told}"
    sign = "+" if added >= 0 else MINUS
    return f"odds × {math.exp(added):.2f} ({sign}{abs(added):.2f})"
