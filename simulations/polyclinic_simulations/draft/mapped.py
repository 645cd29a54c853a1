"""The tables of several hospitals in one, brought into the contract's columns by one mapping."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from polyclinic_common.data.mapping import Translated, settle_rows, translate_columns
from polyclinic_common.data.rules import Mapping, PatientRules
from polyclinic_common.data.settled import SettledRule
from polyclinic_common.data.values import as_text, column_or_missing
from polyclinic_common.study import Study

if TYPE_CHECKING:
    import pandas as pd


def translate_hospitals(mapping: Mapping, frame: pd.DataFrame, study: Study) -> Translated:
    """Return the table of all hospitals in the contract's columns, as somebody wrote down.

    A patient number is one hospital's: what is said of several rows of a patient holds within it.

    Raises
    ------
    DataError
        As `translate`.
    """
    import pandas as pd  # noqa: PLC0415

    done = translate_columns(mapping, frame, study)
    objected = PatientRules(exclude=mapping.patients.exclude)
    of_all = mapping.model_copy(update={"patients": objected})
    others = mapping.patients.model_copy(update={"exclude": ()})
    of_each = mapping.model_copy(update={"patients": others})
    table, of_rows = settle_rows(of_all, done.frame, study)
    hospitals = as_text(column_or_missing(table, study.cohort.site))
    parts, counts = [], Counter[tuple[str, str, str]]()
    for _, rows in table.groupby(hospitals, sort=False, dropna=False):
        part, settled = settle_rows(of_each, rows, study)
        parts.append(part)
        counts.update({(each.column, each.rule, each.how): each.count for each in settled})
    of_rows += tuple(SettledRule(column, rule, n, how) for (column, rule, how), n in counts.items())
    table = pd.concat(parts, ignore_index=True) if parts else table
    return Translated(table, done.settled + of_rows, done.unused)
