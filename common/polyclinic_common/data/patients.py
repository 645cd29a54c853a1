"""Rows that are not one patient each, and what a person wrote down about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import inside
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.rules import PatientRules
from polyclinic_common.data.values import as_number, as_text, as_words, column_or_missing
from polyclinic_common.data.vocabulary import understood
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd


FEW_SHORT = 0.2  # one in ten random numbers begins with a zero
FULL_WIDTH = 6  # digits of a hospital's numbers, where those of a study count up


def patient_numbers(study: Study, frame: pd.DataFrame) -> pd.Series:
    """Return every row's patient number as numbers are compared, missing as None."""
    numbers = as_text(column_or_missing(frame, study.cohort.patient_id))
    return numbers.map(same_number, na_action="ignore")


def widened(number: str, width: int | None) -> str:
    """Return a patient number of digits with the zeros in front that `width` asks for."""
    return number.zfill(width) if width is not None and number.isdecimal() else number


def lost_zeros(numbers: pd.Series) -> NDArray[np.bool_]:
    """Say which patient numbers have probably lost zeros in front, by the length of the others.

    A running count is short by itself: below `FULL_WIDTH` digits, where every length from one digit
    on occurs, or where the numbers fill half of those that there are, nothing is told.
    """
    none = np.zeros(len(numbers), dtype=np.bool_)
    present = numbers.dropna()
    if not len(present) or not present.map(lambda each: each.isascii() and each.isdigit()).all():
        return none
    lengths = numbers.str.len()
    width = int(lengths.max())
    short = (lengths < width).to_numpy(dtype=np.bool_)
    padded = present.str.startswith("0") & (present.str.len() == width)
    if (present.str.startswith("0") & (present.str.len().between(2, width - 1))).any():
        return none  # zeros in front of short numbers: nothing took them away
    running = set(present.str.len()) == set(range(1, width + 1))
    dense = 2 * present.nunique() > int(present.map(int).max()) - int(present.map(int).min())
    rare = width >= FULL_WIDTH and short.sum() <= FEW_SHORT * len(present)
    return short if padded.any() or (rare and not running and not dense) else none


def rows_without_content(study: Study, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Say which rows hold nothing but a patient number and perhaps hospital and split."""
    wanted = {
        column
        for declared in declared_columns(study)
        if declared.role in {"feature", "treatment", "outcome"}
        for column in declared.columns
    }
    left = np.arange(len(frame))
    for column in sorted(wanted & set(frame.columns)):
        left = left[as_text(frame[column].iloc[left]).isna().to_numpy()]
    empty = np.zeros(len(frame), dtype=np.bool_)
    empty[left] = True
    return empty


def settle_patients(
    rules: PatientRules, frame: pd.DataFrame, study: Study
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows that count, and how often each rule applied."""
    if rules == PatientRules():
        return frame, {}
    applied = {}
    numbers = patient_numbers(study, frame)
    if rules.width is not None and study.cohort.patient_id in frame.columns:
        filled = numbers.map(lambda each: widened(each, rules.width), na_action="ignore")
        moved = numbers.notna() & (filled != numbers)
        applied["width"] = int(moved.sum())
        place = study.cohort.patient_id
        frame = frame.assign(**{place: frame[place].astype(object).where(~moved, filled)})
        numbers = filled
    if rules.exclude:
        named = {widened(same_number(each), rules.width) for each in rules.exclude}
        out = numbers.isin(named)
        applied["exclude"] = int(out.sum())
        applied["excluded numbers"] = len(named & set(numbers))
        frame, numbers = frame[~out], numbers[~out]
    if rules.empty is not None:
        empty = rows_without_content(study, frame)
        if rules.empty == "drop":
            empty |= numbers.isna().to_numpy()
            frame, numbers = frame[~empty], numbers[~empty]
        applied["empty"] = int(empty.sum())
    if rules.rows is not None:
        repeated = numbers.notna() & numbers.duplicated(keep=False)
        applied["rows"] = int(repeated.sum())
        frame, differing = _one_row_each(rules.rows, frame, numbers, study)
        applied |= {"differ": differing} if differing else {}
    return frame.reset_index(drop=True), applied


def _one_row_each(
    rule: str, frame: pd.DataFrame, numbers: pd.Series, study: Study
) -> tuple[pd.DataFrame, int]:
    """Return one row a patient, and how many cells count as missing since rows differ there.

    The first or last row counts as it stands, its empty cells included: cells of two visits put
    together would be a visit that never was.
    """
    import pandas as pd  # noqa: PLC0415

    alone = pd.Series([f"\n{row}" for row in range(len(numbers))], index=numbers.index)
    keys = numbers.where(numbers.notna(), alone)
    if rule != "mean":
        keep: Literal["first", "last"] = "first" if rule == "first" else "last"
        return frame.loc[~keys.duplicated(keep=keep)], 0
    first = ~keys.duplicated(keep="first")
    declared = {column: each for each in declared_columns(study) for column in each.columns}
    columns, differing = {}, 0
    for column in frame.columns:
        if column == study.cohort.patient_id:
            columns[column] = frame.loc[first, column]
            continue
        mean, differ = _mean(declared[column], frame[column], keys)
        columns[column] = keys[first].map(mean)
        differing += differ
    return pd.DataFrame(columns), differing


def _mean(declared: Declared, values: pd.Series, keys: pd.Series) -> tuple[pd.Series, int]:
    """Return every patient's mean, or the word of all rows; and in how many patients words differ.

    A cell that is not understood is not averaged away: it stands for the patient's, to be seen.
    """
    import pandas as pd  # noqa: PLC0415

    differ = 0
    if declared.bounds is not None:
        numbers = pd.Series(as_number(values), index=values.index)
        strange = as_text(values).notna() & ~inside(as_number(values), declared.bounds)
        result = numbers.groupby(keys).mean().astype(object)
    else:
        words = as_words(values, declared.words)
        strange = words.notna() & ~words.isin(understood(declared, pd.Index(words.dropna())))
        by_patient = words.groupby(keys)
        same = by_patient.nunique() <= 1
        result, differ = by_patient.first().astype(object), int((~same).sum())
        result[~same] = None
    odd = values[strange].groupby(keys[strange]).first()
    result.loc[odd.index] = odd
    return result, differ
