"""What a column of a table says about itself: kind, range, vocabulary, grid; as manifest text."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polyclinic_common.data.values import as_number
from polyclinic_common.errors import Code, DataError
from polyclinic_common.text import plain

GUESSED = "GUESSED FROM THE TABLE: replace by a public source"
MOST_LEVELS = 12
# Words of two answers of which everybody knows the positive one: its group, and the other's.
POSITIVE_WORDS = frozenset(
    {"1", "yes", "true", "positive", "pos", "y", "responder", "response", "event", "ja", "j", "oui"}
    | {"dead", "died", "deceased", "1:deceased", "death", "verstorben", "relapse", "recurred"}
)
NEGATIVE_WORDS = frozenset(
    {"0", "no", "false", "negative", "neg", "n", "non-responder", "no response", "censored"}
    | {"nein", "non", "alive", "living", "0:living", "survived", "lebend", "no event", "none"}
)
NUMBERED = ("1", "2")  # R's coding of a status: 1 censored, 2 dead
GRID_TIMES = 8
LARGEST = 1e12
SMALLEST = 1e-30


def quote(value: str | list[str]) -> str:
    """Return text, or a list of it, as TOML: JSON without surrogates, no bare delete."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def feature_section(name: str, values: pd.Series) -> str | None:
    """Return the section of a feature, of text values.

    None for free text, constants, and words that no manifest may hold.
    """
    words = values.dropna()
    levels = sorted(words.unique())
    if len(levels) < 2:
        return None
    known = _numbers(values)
    if len(known) >= 0.95 * len(words) and len(levels) > 6:
        low, high = _round_range(float(known.min()), float(known.max()))
        what = f'kind = "numeric"\nunit = "unknown"\nrange = [{low!r}, {high!r}]'
    elif len(levels) <= MOST_LEVELS and levels == [plain(level) for level in levels]:
        what = f'kind = "categorical"\nlevels = {quote(levels)}'
    else:
        return None
    head = f"[[cohort.features]]\nname = {quote(name)}"
    return f"{head}\n{what}\nsource = {quote(GUESSED)}\n"


def without_strange_cells(values: pd.Series, section: str) -> tuple[pd.Series, str]:
    """Return a column with what its drafted section cannot hold left out, and the section.

    The section says how many cells count as missing for that.
    """
    if 'kind = "numeric"' not in section:
        return values, section
    numbers = as_number(values)
    strange = values.notna() & ~(np.abs(numbers) <= LARGEST)
    if not strange.any():
        return values, section
    remark = f"# {int(strange.sum())} cells are no number: missing in the drafted table.\n"
    return values.where(~strange), remark + section


def _numbers(values: pd.Series) -> NDArray[np.float64]:
    """Return the numbers among `values`; beyond `LARGEST` nothing is measured."""
    numbers = as_number(values)
    return numbers[np.abs(numbers) <= LARGEST]


def _round_range(low: float, high: float) -> tuple[float, float]:
    """Widen a range to round numbers; one without width gets the width 1."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), SMALLEST):
        high = low + 1.0
    places = -math.floor(math.log10(high - low))
    step = 10.0**-places
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return float(round(bottom, places)), float(round(top, places))


def outcome_section(values: pd.Series, column: str, positive: str | None = None) -> str:
    """Return the section of a binary or continuous outcome.

    Raises
    ------
    DataError
        If there are neither numbers nor two different words.
    """
    head, source = f"column = {quote(column)}", f"source = {quote(GUESSED)}\n"
    if values.nunique() == 2:
        yes, no = answers(values, column, positive)
        words = f"positive = {quote(yes)}\nnegative = {quote(no)}"
        return f'[outcome]\nkind = "binary"\n{head}\n{words}\n{source}'
    numbers = _numbers(values)
    if numbers.size == 0:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The outcome column {column!r} holds neither numbers nor two different words.",
            "Name another --outcome-column, or --event-column for a survival time.",
        )
    low, high = _round_range(float(numbers.min()), float(numbers.max()))
    scale = f'unit = "unknown"\nrange = [{low!r}, {high!r}]'
    return f'[outcome]\nkind = "continuous"\n{head}\n{scale}\n{source}'


def survival_section(
    times: pd.Series, events: pd.Series, time: str, event: str, positive: str | None = None
) -> str:
    """Return the section of a survival outcome, from its columns and their names.

    `positive` is the word of the event; without it, it is the one that everybody knows.

    Raises
    ------
    DataError
        If the event has not two answers, or no time is above zero.
    """
    numbered = sorted(events.dropna().unique()) == list(NUMBERED)
    yes, no = answers(events, event, positive or (NUMBERED[1] if numbered else None))
    numbers = _numbers(times)
    followed = numbers[numbers >= SMALLEST]
    if followed.size == 0:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The time column {time!r} holds no time above zero.",
            "Name the column of follow-up times with --outcome-column.",
        )
    last = np.quantile(followed, 0.9)
    grid = [float(f"{last * k / GRID_TIMES:.3g}") for k in range(1, GRID_TIMES + 1)]
    return (
        f'[outcome]\nkind = "survival"\ntime = {quote(time)}\nevent = {quote(event)}\n'
        f"occurred = {quote(yes)}\ncensored = {quote(no)}\n"
        f'unit = "unknown"\ngrid = {grid}\nsource = {quote(GUESSED)}\n'
    )


def answers(words: pd.Series, column: str, positive: str | None) -> tuple[str, str]:
    """Return the positive and the negative word of a column that has two.

    Raises
    ------
    DataError
        If there are not two plain words, `positive` is none of them, or it is not given and nobody
        can know it.
    """
    levels = sorted(words.dropna().unique())
    if len(levels) != 2:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The column {column!r} has {len(levels)} different words instead of two.",
            "Name a column with two answers.",
        )
    if levels != [plain(level) for level in levels]:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"The column {column!r} has a control character in its words.",
            "Export the table with plain words.",
        )
    if positive is None:
        known = [w for w in levels if w.lower() in POSITIVE_WORDS]
        other = [w for w in levels if w.lower() in NEGATIVE_WORDS]
        positive = known[0] if len(known) == len(other) == 1 else None
    if positive is None or positive not in levels:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"Nobody can know which of the two words of {column!r} is the event or the yes.",
            "Name it as the table writes it: --event-is WORD.",
        )
    return positive, next(word for word in levels if word != positive)
