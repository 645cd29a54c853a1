"""Deviations in columns of numbers: cells that are no number, and values outside the range."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.cells import MISSING, read_cell, unit_in
from polyclinic_common.data.columns import inside
from polyclinic_common.data.deviation import MOST_EXAMPLES, Found, shortened
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.report import UnitError
from polyclinic_common.data.rules import ValueRules
from polyclinic_common.data.units import Conversion, canonical_unit, conversions_to
from polyclinic_common.data.values import as_cells, read_numbers
from polyclinic_common.data.vocabulary import NO_VALUES
from polyclinic_common.study.columns import Declared

if TYPE_CHECKING:
    import pandas as pd

MOST_CODES = 20
MISSING_CODE = re.compile(r"-?(9{1,6}|9+[6-8]|8{2,6}|7{2,6})|-[1-9]")
UNIT_ERROR_FROM = 0.1
UNIT_ERROR_LEFT = 0.2
CENSORED = ("<", ">", "≤", "≥")


@dataclass(frozen=True)
class Numbers:
    """What stands in a column of numbers, or in all columns of a panel; two of them add up.

    Attributes
    ----------
    cells, values : int
        All cells, and those that are not missing.
    unread : Counter of str
        Cells that are no number.
    outside : Counter of float
        Values outside the public range.
    after : tuple of int
        How many values would lie outside after each of the known conversions.
    """

    cells: int = 0
    values: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    outside: Counter[float] = field(default_factory=Counter)
    after: tuple[int, ...] = ()

    def __add__(self, other: Numbers) -> Numbers:
        return Numbers(
            self.cells + other.cells,
            self.values + other.values,
            self.unread + other.unread,
            self.outside + other.outside,
            tuple(a + b for a, b in zip(self.after, other.after, strict=True)),
        )


def count_numbers(declared: Declared, series: pd.Series) -> Numbers:
    """Count what stands in one column."""
    bounds = declared.bounds or (-math.inf, math.inf)
    numbers, present = read_numbers(series)
    known = numbers[~np.isnan(numbers)]
    unread = as_cells(series[present & np.isnan(numbers)])

    def outside(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[~inside(values, bounds)]

    conversions = conversions_to(declared.unit, declared.name)
    return Numbers(
        len(series),
        int(present.sum()),
        Counter(unread),
        Counter(map(float, outside(known))),
        tuple(len(outside(conversion.apply(known))) for conversion in conversions),
    )


def unit_error(declared: Declared, numbers: Numbers) -> UnitError | None:
    """Return the conversion that mends most, where it leaves at most a fifth outside."""
    conversions = conversions_to(declared.unit, declared.name)
    out = numbers.outside.total()
    readable = numbers.values - numbers.unread.total()
    if not conversions or out < max(UNIT_ERROR_FROM * numbers.values, 1):
        return None
    left, best = min(zip(numbers.after, range(len(conversions)), strict=True))
    if left > UNIT_ERROR_LEFT * out:
        return None
    chosen = conversions[best]
    return UnitError(str(chosen), chosen.factor, chosen.offset, out / readable, left / readable)


def number_deviations(declared: Declared, numbers: Numbers, rules: ValueRules) -> Iterator[Found]:
    """Yield what a column of numbers holds that nobody has said the meaning of."""
    if numbers.unread:
        yield from _unread(declared, numbers, rules)
    if not numbers.outside:
        return
    error = unit_error(declared, numbers)
    if error is not None and not (error.out_after and _is_mixture(declared, numbers)):
        yield Found(
            f"Probably another unit: {error.out_now:.0%} of the values lie outside the public "
            f"range, {error.out_after:.0%} after {error.conversion}.",
            numbers.outside.total(),
            _examples(numbers.outside),
            "",
            _composed(rules, error.factor, error.offset),
            "Else look whether it is the right column.",
        )
    else:
        yield from _outside(declared, numbers.outside, rules)


def _composed(rules: ValueRules, factor: float, offset: float) -> dict[str, Any]:
    """Return the rules that convert what `rules` convert already."""
    updates: dict[str, Any] = {"factor": float(f"{rules.factor * factor:.9g}")}
    moved = rules.offset * factor + offset
    return updates | ({"offset": float(f"{moved:.9g}")} if moved else {})


def _outside(declared: Declared, outside: Counter[float], rules: ValueRules) -> Iterator[Found]:
    cell = {value: _before(value, rules) for value in outside}
    codes = Counter({v: n for v, n in outside.items() if _is_code(cell[v])})
    rest = outside - codes
    if rest and codes and max(codes.values()) == 1:
        codes, rest = Counter(), outside
    if codes:
        yield Found(
            f"{codes.total()} values are out of range and look like codes for missing.",
            codes.total(),
            _examples(codes),
            "The same few numbers repeat outside the range.",
            {"missing": tuple(sorted(f"{cell[value]:.15g}" for value in codes))},
            _other_ways(declared),
        )
    if not rest:
        return
    chosen, overlaps = _misfit_conversion(declared, rest)
    updates: dict[str, Any] = {"outside": "missing"}
    cause = "Wrong entries, or another quantity."
    if chosen is not None and not overlaps:
        cause = f"All of them fit after {chosen}."
        updates = {"outside_factor": float(f"{chosen.factor:.9g}")}
        updates |= {"outside_offset": float(f"{chosen.offset:.9g}")} if chosen.offset else {}
    elif _in_thousands(declared, rest, rules):
        cause, updates = "They have points between thousands.", {"thousands": "."}
    elif chosen is not None:
        cause = f"All of them fit after {chosen}: then values inside the range may need it too."
    yield Found(
        f"{rest.total()} values are out of range.",
        rest.total(),
        _examples(rest),
        cause,
        updates,
        _other_ways(declared),
    )


def _in_thousands(declared: Declared, outside: Counter[float], rules: ValueRules) -> bool:
    """Say whether all values are a thousandth of a whole number inside the range: ``1.234``."""
    bounds = declared.bounds or (-math.inf, math.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(list(outside)) * 1000.0
        whole = np.abs(values - np.round(values)) < 1e-6
    return not rules.of_numbers and bool((whole & inside(values, bounds)).all())


def _is_mixture(declared: Declared, numbers: Numbers) -> bool:
    """Say whether a conversion of the misfits alone mends all of them."""
    rest = Counter({v: n for v, n in numbers.outside.items() if not _is_code(v)})
    conversion, overlaps = _misfit_conversion(declared, rest)
    return bool(rest) and conversion is not None and not overlaps


def _before(value: float, rules: ValueRules) -> float:
    """Return the number in the cell, before `rules` converted it."""
    if (rules.factor, rules.offset) == (1.0, 0.0) or not rules.factor:
        return value
    return float(f"{(value - rules.offset) / rules.factor:.9g}")


def _is_code(value: float) -> bool:
    return MISSING_CODE.fullmatch(f"{value:.15g}") is not None


def _other_ways(declared: Declared) -> str:
    if declared.role == "outcome":
        return 'If they are wrong: outside = "missing" (the outcome is then unknown).'
    return 'If they are wrong: outside = "missing"; if true but extreme: outside = "clamp".'


def _misfit_conversion(
    declared: Declared, outside: Counter[float]
) -> tuple[Conversion | None, bool]:
    """Return a conversion after which all misfits fit, and whether others may need it too."""
    bounds = declared.bounds or (-math.inf, math.inf)
    values = np.array(list(outside))
    for conversion in conversions_to(declared.unit, declared.name):
        if inside(conversion.apply(values), bounds).all():
            back = conversion.inverse().apply(np.array(bounds))
            return conversion, bool(back[1] >= bounds[0] and back[0] <= bounds[1])
    return None, False


def _examples(counts: Counter[float] | Counter[str]) -> tuple[str, ...]:
    shown = Counter(
        {f"{key:.15g}" if isinstance(key, float) else key: n for key, n in counts.items()}
    )
    frequent = sorted(shown.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(shortened(key) for key, _ in frequent[:MOST_EXAMPLES])


def _unread(declared: Declared, numbers: Numbers, rules: ValueRules) -> Iterator[Found]:
    """Yield what reads the cells that are no number, and what is left then."""
    left = dict(numbers.unread)
    updates: dict[str, Any] = {}
    while left:
        tried = [
            (_read_by(declared, left, rules, updates | change), -place, change, cause)
            for place, (change, cause) in enumerate(_readings(declared, left))
        ]
        read, _, change, cause = max(tried, key=lambda each: (len(each[0]), each[1]))
        if not read:
            break
        updates |= change
        yield _cells_read(left, read, change, cause)
        left = {cell: count for cell, count in left.items() if cell not in read}
    if left:
        yield _not_read(Counter(left))


def _cells_read(left: dict[str, int], read: set[str], change: dict[str, Any], cause: str) -> Found:
    counts = Counter({cell: left[cell] for cell in read})
    what = f"{counts.total()} cells cannot be read as numbers."
    return Found(what, counts.total(), _examples(counts), cause, change, "Else: see `codes`.")


def _not_read(left: Counter[str]) -> Found:
    few = len(left) <= MOST_CODES
    words = all(same_number(cell) in map(same_number, NO_VALUES) for cell in left)
    return Found(
        f"{left.total()} cells cannot be read as numbers.",
        left.total(),
        _examples(left),
        "They say that there is no value." if words else "Words, or damaged numbers.",
        {"missing": tuple(sorted(left))} if few else {"others": "missing"},
        "If they hold a value, name it in `codes`.",
    )


def _readings(declared: Declared, left: dict[str, int]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield rules that may read the cells, and what they say of them."""
    pointed = any(re.search(r"\.\d", cell) for cell in left)
    yield {"decimal": "either" if pointed else ","}, "They have a decimal comma."
    yield {"decimal": "either"}, "Some have a decimal comma, some a point."
    yield {"decimal": ",", "thousands": "."}, "They have points between thousands."
    yield {"thousands": ","}, "They have commas between thousands."
    yield {"thousands": " "}, "They have blanks between thousands."
    yield {"thousands": "'"}, "They have apostrophes between thousands."
    if any(cell.strip().startswith(CENSORED) or cell.strip().endswith("+") for cell in left):
        yield {"censored": "bound"}, "They are bounds (below, above, or so much and more)."
    units = {
        unit: factor
        for cell in left
        if (unit := unit_in(cell)) is not None
        if (factor := _factor(declared, unit)) is not None
    }
    if units:
        yield {"units": units}, "A unit stands behind the number."


def _factor(declared: Declared, unit: str) -> float | None:
    """Return the factor from a unit in a cell to the declared one, None if it is not known."""
    found, wanted = canonical_unit(unit), canonical_unit(declared.unit)
    if found == wanted:
        return 1.0
    if found == "%":
        return 0.01 if declared.bounds is not None and declared.bounds[1] <= 1.0 else None
    for conversion in conversions_to(declared.unit, declared.name):
        if conversion.found == found and not conversion.offset:
            return conversion.factor
    return None


def _read_by(
    declared: Declared, left: dict[str, int], rules: ValueRules, updates: dict[str, Any]
) -> set[str]:
    """Return the cells that `updates` read as values inside the range."""
    trial = rules.model_copy(update=updates)
    bounds = declared.bounds or (-math.inf, math.inf)
    read = set()
    for cell in left:
        number = read_cell(cell, trial)
        if number is MISSING:
            continue
        value = np.array([number * rules.factor + rules.offset])
        if inside(value, bounds)[0]:
            read.add(cell)
    return read
