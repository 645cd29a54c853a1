"""Cells of numbers as hospitals write them, read by the rules that somebody wrote down."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import inside
from polyclinic_common.data.genotype import other_strand
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.rules import ValueRules
from polyclinic_common.data.values import as_cells, as_text, read_numbers
from polyclinic_common.text import number_word

if TYPE_CHECKING:
    import pandas as pd

MISSING = None
CELL = re.compile(
    r"(?P<sign>[<>≤≥]=?)?\s*(?P<number>[+-]?\d[\d.,'’\s]*?)\s*(?P<plus>\+)?(?P<unit>[^\d.,'’\s+][^\d]*\d?)?"
)
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
GROUPS = {",": r",", ".": r"\.", " ": r"[\s\u00a0\u202f]", "'": r"['’]"}


def read_cell(cell: str, rules: ValueRules) -> float | None:
    """Return the number in a cell by `rules`: NaN where nothing is understood, None if missing."""
    cell = cell if cell.isascii() else number_word(cell)
    number = _number(cell, rules)
    if not math.isnan(number):
        return number
    parts = CELL.fullmatch(cell.strip())
    if parts is None:
        return math.nan
    if parts["sign"] or parts["plus"]:
        if rules.censored is None:
            return math.nan
        if rules.censored == "missing":
            return MISSING
    scale = 1.0
    if parts["unit"]:
        known = {same_number(unit): factor for unit, factor in (rules.units or {}).items()}
        scale = known.get(same_number(parts["unit"]), math.nan)
    return _number(parts["number"], rules) * scale


def unit_in(cell: str) -> str | None:
    """Return the unit that stands behind the number in a cell."""
    parts = CELL.fullmatch(cell.strip())
    return parts["unit"].strip() if parts is not None and parts["unit"] else None


def _number(cell: str, rules: ValueRules) -> float:
    text = cell.strip()
    mark = rules.thousands
    if mark is not None:
        decimal = "," if rules.decimal == "," or mark == "." else "."
        group = rf"[+-]?\d{{1,3}}({GROUPS[mark]}\d{{3}})+({re.escape(decimal)}\d+)?"
        if re.fullmatch(group, text):
            text = re.sub(GROUPS[mark], "", text).replace(",", ".")
    if rules.decimal == "," and "." in text and "," not in text and text == cell.strip():
        return math.nan
    if rules.decimal in {",", "either"} and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    return float(text) if PLAIN.fullmatch(text) else math.nan


def translate_numbers(
    values: pd.Series, rules: ValueRules, bounds: tuple[float, float]
) -> tuple[pd.Series, dict[str, int]]:
    """Return a column in the study's unit, and how often each rule applied.

    What nobody understands stays as it stands, unless `rules` say what it means.
    """
    import pandas as pd  # noqa: PLC0415

    numbers, present = read_numbers(values)
    texts = values.map(lambda cell: cell.strip() if isinstance(cell, str) else None)
    marked = rules.thousands is not None or rules.decimal not in {None, "."}
    strange = np.isnan(numbers)
    unread = present & texts.notna().to_numpy() & (strange | marked)
    found = {cell: read_cell(cell, rules) for cell in texts[unread].unique()}
    gone = unread & texts.isin([cell for cell, number in found.items() if number is MISSING])
    gone = np.asarray(gone, dtype=np.bool_)
    read = [math.nan if found[cell] is MISSING else found[cell] for cell in texts[unread]]
    before = numbers.copy()
    numbers[unread] = np.array(read, dtype=np.float64)
    changed = gone | (unread & ~np.isnan(numbers) & (numbers != before))
    applied = Counter[str]()
    for cell, count in texts[changed].value_counts().items():
        applied[_rule_of(str(cell), rules)] += int(count)
    if (rules.factor, rules.offset) != (1.0, 0.0):
        applied["factor"] = int((~np.isnan(numbers)).sum())
    numbers, applied["outside_factor"] = _convert(numbers, rules, bounds)
    beyond = ~np.isnan(numbers) & ~inside(numbers, bounds)
    if rules.outside == "clamp":
        numbers = np.clip(numbers, *bounds)
    elif rules.outside == "missing":
        gone |= beyond
    applied["outside"] = int(beyond.sum()) if rules.outside else 0
    left = present & np.isnan(numbers) & ~gone
    if rules.others == "missing":
        gone |= left
        applied["others"] = int(left.sum())
    kept = np.where(np.isfinite(numbers), numbers.astype(object), as_text(values).to_numpy())
    kept[gone] = None
    result = pd.Series(kept, index=values.index, dtype=object)
    return result, {rule: count for rule, count in applied.items() if count}


def _rule_of(cell: str, rules: ValueRules) -> str:
    """Return the rule that a cell is read by."""
    parts = CELL.fullmatch(cell)
    if parts is not None and (parts["sign"] or parts["plus"]):
        return "censored"
    if parts is not None and parts["unit"]:
        return "units"
    without = rules.model_copy(update={"thousands": None})
    read = read_cell(cell, without)
    return "thousands" if read is MISSING or read != read_cell(cell, rules) else "decimal"


def _convert(
    numbers: NDArray[np.float64], rules: ValueRules, bounds: tuple[float, float]
) -> tuple[NDArray[np.float64], int]:
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = numbers * rules.factor + rules.offset
        if rules.outside_factor is None:
            return numbers, 0
        beyond = ~np.isnan(numbers) & ~inside(numbers, bounds)
        moved = numbers * rules.outside_factor + rules.outside_offset
    fits = beyond & inside(moved, bounds)
    return np.where(fits, moved, numbers), int(fits.sum())


def translate_codes(
    values: pd.Series, rules: ValueRules
) -> tuple[pd.Series, dict[str, int], list[str]]:
    """Apply codes and missing codes; return the column, counts, and codes that match no cell."""
    codes = {_key(code): word for code, word in (rules.codes or {}).items()}
    codes |= {_key(code): "" for code in rules.missing}
    if not codes:
        return values, {}, []
    cells = as_cells(values)
    counts = cells.value_counts()
    unmatched = [code for code in codes if code not in counts.index]
    matched = cells.isin(list(codes))
    changed = values.astype(object).where(~matched, cells.map(codes))
    missing = int(cells.isin([_key(code) for code in rules.missing]).sum())
    applied = {"codes": int(matched.sum()) - missing, "missing": missing}
    return changed, {rule: count for rule, count in applied.items() if count}, unmatched


def translate_strand(values: pd.Series, coded: pd.Series, rules: ValueRules) -> pd.Series:
    """Return genotypes as the other strand has them; what a code stands for is left alone.

    Every genotype of letters is turned, so that one of the study's strand is not understood then.
    """
    keys = {_key(code) for code in (*(rules.codes or {}), *rules.missing)}
    cells = as_cells(values)
    turned = cells.map(other_strand).where(cells != "")
    return coded.astype(object).where(cells.isin(keys), turned)


def _key(code: str) -> str:
    import pandas as pd  # noqa: PLC0415

    return str(as_cells(pd.Series([code], dtype=object)).iloc[0])
