"""Rows that are not one patient each, and what a person wrote down about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.rules import PatientRules
from polyclinic_common.data.table import as_number, as_text, column_or_missing
from polyclinic_common.study.describe import declared_columns
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd


def patient_numbers(study: Study, frame: pd.DataFrame) -> pd.Series:
    """Return every row's patient number as numbers are compared, missing as None."""
    numbers = as_text(column_or_missing(frame, study.cohort.patient_id))
    return numbers.map(same_number, na_action="ignore")


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
    if rules.exclude:
        out = numbers.isin([same_number(each) for each in rules.exclude])
        applied["exclude"] = int(out.sum())
        frame, numbers = frame[~out], numbers[~out]
    if rules.empty == "drop":
        empty = rows_without_content(study, frame) | numbers.isna().to_numpy()
        applied["empty"] = int(empty.sum())
        frame, numbers = frame[~empty], numbers[~empty]
    repeated = numbers.notna() & numbers.duplicated(keep=False)
    if rules.rows is not None and repeated.any():
        applied["rows"] = int(repeated.sum())
        frame = _one_row_each(rules.rows, frame, numbers, study)
    return frame.reset_index(drop=True), applied


def _one_row_each(rule: str, frame: pd.DataFrame, numbers: pd.Series, study: Study) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    alone = pd.Series([f"\n{row}" for row in range(len(numbers))], index=numbers.index)
    keys = numbers.where(numbers.notna(), alone)
    if rule != "mean":
        keep: Literal["first", "last"] = "first" if rule == "first" else "last"
        return frame.loc[~keys.duplicated(keep=keep)]
    of_numbers = {c for d in declared_columns(study) if d.bounds for c in d.columns}
    first = ~keys.duplicated(keep="first")
    columns = {}
    for column in frame.columns:
        if column == study.cohort.patient_id:
            columns[column] = frame.loc[first, column]
        elif column in of_numbers:
            means = pd.Series(as_number(frame[column]), index=frame.index).groupby(keys).mean()
            columns[column] = keys[first].map(means)
        else:
            words = as_text(frame[column]).groupby(keys)
            one = words.first().where(words.nunique() == 1)
            columns[column] = keys[first].map(one)
    return pd.DataFrame(columns)
