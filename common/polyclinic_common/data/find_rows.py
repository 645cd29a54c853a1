"""Deviations of rows and of whole columns: who is in the table, and what is improbable of it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.deviation import FILL_IN, Deviation, Found, toml, written
from polyclinic_common.data.find_words import examples
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.patients import lost_zeros, rows_without_content
from polyclinic_common.data.rules import Mapping
from polyclinic_common.data.units import Conversion, conversions_to
from polyclinic_common.data.values import as_number, as_text, as_words, column_or_missing
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival
from polyclinic_common.study.sections import SplitColumn

if TYPE_CHECKING:
    import pandas as pd

PATIENTS = "[patients]"
ANY_DIGIT = re.compile(r"\d")
SHORTENED = re.compile(r"\d([.,]\d+)?E\+?\d+", re.IGNORECASE)
NEARLY_ALL = 0.9
MOST = 0.5
FEWEST_TOLD = 5  # patients from whom anything can be told of a column


def row_deviations(
    study: Study, frame: pd.DataFrame, mapping: Mapping, numbers: pd.Series
) -> Iterator[Deviation]:
    """Yield rows that are not one patient each; `numbers` are those of `patient_numbers`."""
    place = study.cohort.patient_id
    if place not in frame.columns:
        return
    words = as_text(frame[place])
    shortened = words.map(_is_shortened)
    repeated = numbers.notna() & numbers.duplicated(keep=False) & ~shortened
    if shortened.any() and not mapping.rules_of(place, place).as_is:
        yield Deviation(
            place,
            f"{int(shortened.sum())} patient numbers were probably shortened by a spreadsheet.",
            int(shortened.sum()),
            examples(Counter(words[shortened])),
            "What was cut off cannot be brought back: do not merge or drop rows.",
            f"[columns.{toml(place)}]",
            () if (shortened & numbers.duplicated(keep=False)).any() else ("as_is = true",),
            "Export the numbers again as text.",
        )
    lost = lost_zeros(numbers)
    if lost.any() and mapping.patients.width is None and not mapping.rules_of(place, place).as_is:
        yield Deviation(
            place,
            f"{int(lost.sum())} patient numbers are shorter than the others.",
            int(lost.sum()),
            examples(Counter(words[lost])),
            "A spreadsheet took zeros away in front of them.",
            PATIENTS,
            (f"width = {int(numbers.str.len().max())}",),
            f"If they are right: as_is = true in [columns.{toml(place)}].",
        )
    if repeated.any():
        yield Deviation(
            place,
            f"{int(repeated.sum())} rows share their patient id with another row.",
            int(repeated.sum()),
            examples(Counter(words[repeated])),
            "Several visits, or one patient twice; blanks, case and quotes tell no two apart.",
            PATIENTS,
            ('rows = "first"',),
            'Or rows = "last", or rows = "mean", or make it one row a patient.',
        )
    yield from _rows_without(study, frame, mapping, numbers)
    yield from _words_for_numbers(place, words, mapping)


def _words_for_numbers(place: str, words: pd.Series, mapping: Mapping) -> Iterator[Deviation]:
    """Yield patient numbers without a digit where the others hold some: a line of means."""
    digits = words.dropna().map(lambda word: ANY_DIGIT.search(word) is not None)
    odd = words.dropna()[~digits.astype(bool)]
    if not len(odd) or digits.mean() < NEARLY_ALL or mapping.rules_of(place, place).as_is:
        return
    out = dict.fromkeys((*mapping.patients.exclude, *map(str, odd)))
    yield Deviation(
        place,
        f"{len(odd)} patient ids hold no digit, and the others do.",
        len(odd),
        examples(Counter(odd)),
        "A line of totals or means, or a remark.",
        PATIENTS,
        (f"exclude = {toml(list(out))}",),
        f"If they are patients, in [columns.{toml(place)}]: as_is = true.",
    )


def _is_shortened(word: str | None) -> bool:
    return word is not None and SHORTENED.fullmatch(word) is not None


def _rows_without(
    study: Study, frame: pd.DataFrame, mapping: Mapping, numbers: pd.Series
) -> Iterator[Deviation]:
    place = study.cohort.patient_id
    drop = ('empty = "drop"',)
    nobody = int(numbers.isna().sum())
    if nobody:
        what = f"{nobody} rows have no patient id."
        cause = "Blank lines, totals or footers."
        yield Deviation(place, what, nobody, (), cause, PATIENTS, drop, "Or fill it in.")
    empty = rows_without_content(study, frame) & numbers.notna().to_numpy()
    if empty.any() and not empty.all() and mapping.patients.empty != "keep":
        yield Deviation(
            place,
            f"{int(empty.sum())} rows have a patient id and nothing else.",
            int(empty.sum()),
            examples(Counter(as_text(frame[place])[empty])),
            "A footer or a total, or a patient of whom nothing is known.",
            PATIENTS,
            drop,
            'Or empty = "keep", if they are patients.',
        )


def improbable(study: Study, frame: pd.DataFrame, mapping: Mapping) -> Iterator[Deviation]:
    """Yield what is possible of a whole column, but improbable."""
    outcome, holdout = study.outcome, study.evaluation.holdout
    if isinstance(outcome, Survival):
        found = list(_time_of(outcome, frame))
        yield from _unless_as_is(found, outcome.time, mapping)
    if isinstance(holdout, SplitColumn) and holdout.column in frame.columns:
        rules = mapping.rules_of(holdout.column, holdout.column)
        found = list(_split_of(holdout, frame, as_is=rules.as_is))
        yield from written(found, holdout.column, f"[columns.{toml(holdout.column)}]", rules)


def _unless_as_is(found: list[Found], column: str, mapping: Mapping) -> list[Deviation]:
    rules = mapping.rules_of(column, column)
    if rules.as_is:
        return []
    return written(found, column, f"[columns.{toml(column)}]", rules)


def _time_of(outcome: Survival, frame: pd.DataFrame) -> Iterator[Found]:
    """Yield follow-up that (nearly) all ends before the first grid time, or after the last."""
    time = as_number(column_or_missing(frame, outcome.time))
    time = time[time >= 0.0]
    if len(time) < FEWEST_TOLD:
        return
    first, last = outcome.grid[0], outcome.grid[-1]
    before, beyond = float((time < first).mean()), float((time > last).mean())
    short = float(time.max()) < outcome.grid[:2][-1]
    if max(before, beyond) < NEARLY_ALL and not short:
        return
    where = "before the first" if before > beyond else "beyond the last"
    what = f"{max(before, beyond):.0%} of follow-up ends {where} time of the study's grid."
    if max(before, beyond) < NEARLY_ALL:
        what = "All follow-up ends before the second time of the study's grid."
    best, *others = [*_units_that_fit(outcome, time), None]
    more = "".join(f" Or {each}." for each in others if each is not None)
    yield Found(
        what,
        len(time),
        (),
        f"Probably another unit: {best}.{more}" if best else "Is it the right column and unit?",
        {"factor": float(f"{best.factor:.9g}")} if best is not None else {"as_is": True},
        "If it is right: as_is = true.",
    )


def _units_that_fit(outcome: Survival, time: NDArray[np.float64]) -> list[Conversion]:
    """Return conversions after which most follow-up ends on the grid.

    First that after which the longest is nearest, by its logarithm, to the grid's end.
    """
    first, last = outcome.grid[0], outcome.grid[-1]

    def share(each: Conversion) -> float:
        moved = each.apply(time)
        return float((moved >= first).mean() * (moved <= last).mean())

    known = [each for each in conversions_to(outcome.unit, outcome.time) if share(each) > MOST]
    return sorted(known, key=lambda each: abs(math.log(each.factor * time.max() / last)))


def _split_of(holdout: SplitColumn, frame: pd.DataFrame, *, as_is: bool) -> Iterator[Found]:
    """Yield words that people read as the one that holds out, and whatever else may mean it.

    Whoever is not held out is trained on: a word, or an empty cell, is taken for that only where it
    is the one other word of the column or another fold's number, or somebody looked at it.
    """
    words = as_words(frame[holdout.column], (holdout.test,))
    others = Counter(words[words.notna() & (words != holdout.test)])
    alike = [word for word in others if same_number(word) == same_number(holdout.test)]
    if alike:
        counts = Counter({word: others.pop(word) for word in alike})
        yield Found(
            f"{counts.total()} are words that the study does not know.",
            counts.total(),
            examples(counts),
            f"They differ from {holdout.test} in case, blanks or width only.",
            {"codes": dict.fromkeys(alike, holdout.test)},
            "If they mean something else, say so in `codes`.",
        )
    if as_is:
        return
    left = "As it stands, their patients are trained on: as_is = true, if that is right."
    if empty := int(words.isna().sum()):
        codes = {"codes": {"": FILL_IN}}
        yield Found(f"{empty} cells are empty.", empty, (), "Held out, or not?", codes, left)
    numbered = all(word.isdecimal() for word in (*others, holdout.test))  # folds of one count
    if (len(others) > 1 and not numbered) or (
        others and not alike and holdout.test not in set(words)
    ):
        yield Found(
            f"{others.total()} cells hold one of {len(others)} words that do not hold out.",
            others.total(),
            examples(others),
            f"The study holds out {holdout.test} alone.",
            {"as_is": True},
            f"{left} Else say in `codes` which words mean {holdout.test}.",
        )
