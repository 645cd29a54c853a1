"""What the page says about one patient: plain texts, tables and numbers for the template to print.

Nothing is computed here but roundings: predictions, reasons and intervals come as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from polyclinic_common.bedside.hundred import Hundred, curve_of, hundred, percent
from polyclinic_common.bedside.pictures import Bar, bar_of
from polyclinic_common.bedside.sure import Sure, sure_of
from polyclinic_common.bundle.flags import Flag, FlagKind
from polyclinic_common.bundle.here import ModelHere
from polyclinic_common.bundle.outcome_words import event_in_words, in_words, number, rounded
from polyclinic_common.bundle.predictor import Predicted, restricted_mean
from polyclinic_common.bundle.reasons import Reason, Reasons
from polyclinic_common.bundle.similar import Similar
from polyclinic_common.rowwise import expit
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival

MINUS = "\u2212"


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
    """Why the model says so.

    Attributes
    ----------
    about : tuple of str
        What reasons are counted from, and how they add up.
    what : str
        What they raise or lower.
    rows : tuple of ReasonRow
        The reasons, largest first.
    """

    about: tuple[str, ...]
    what: str
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
    sure : Sure or None
        How far the truth may lie from it; None where nothing is known.
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
    sure: Sure | None
    reasons: ReasonTable | None
    missing: tuple[str, ...]
    clamped: tuple[str, ...]
    not_covered: tuple[str, ...]
    similar: Similar | None


def result_view(
    here: ModelHere,
    predicted: Predicted,
    reasons: Reasons | None,
    similar: Similar | None,
) -> ResultView:
    """Return what the page says about the one patient of `predicted`."""
    study, given = predicted.study, bool(predicted.given[0])
    (interval,), (in_time,) = here.intervals(predicted), here.survival_intervals(predicted)
    local = tuple(note for note in here.notes if note not in here.opened.notes)
    return ResultView(
        title=predicted_title(study),
        figure=_figure(predicted) if given else "",
        notes=(*(_notes(predicted) if given else ()), *local),
        hundred=hundred(predicted, interval) if given else None,
        sure=sure_of(study, interval, in_time) if given else None,
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


def _figure(predicted: Predicted) -> str:
    outcome, made = predicted.study.outcome, predicted.prediction
    if isinstance(outcome, Continuous):
        return number(float(made.value[0]), outcome)
    if isinstance(outcome, Binary):
        return percent(float(made.value[0]))
    share = percent(float(curve_of(predicted)[-1]))
    return f"{share} after {outcome.grid[-1]:g} {outcome.unit}"


def _notes(predicted: Predicted) -> tuple[str, ...]:
    outcome = predicted.study.outcome
    if not isinstance(outcome, Survival):
        return ()
    end = outcome.grid[-1]
    mean = rounded(float(restricted_mean(outcome, curve_of(predicted)[None, :])[0]), end)
    return (
        f"On average {mean} of the first {end:g} {outcome.unit} are spent free of "
        f"{event_in_words(predicted.study)}: the area under the curve, which is drawn straight "
        "between the times at which the model gives a value (restricted mean survival time).",
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
    return ReasonTable(tuple(about), _raised(study), tuple(rows))


def _told(study: Study, base: float) -> str:
    """Return what the model says of the typical patient."""
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        return number(base, outcome)
    if isinstance(outcome, Binary):
        return percent(float(expit(np.array([base]))[0]))
    return f"log odds of {base:.2f} in an interval"


def _raised(study: Study) -> str:
    if isinstance(study.outcome, Survival):
        return "the risk"
    event = event_in_words(study)
    return f"the probability of {event}" if isinstance(study.outcome, Binary) else f"the {event}"


def _adds(study: Study, reason: Reason) -> str:
    outcome, added = study.outcome, reason.contribution
    if isinstance(outcome, Continuous):
        told = number(abs(added), outcome)
        return f"{'+' if added >= 0 else MINUS}{told}"
    sign = "+" if added >= 0 else MINUS
    return f"odds × {math.exp(added):.2f} ({sign}{abs(added):.2f})"
