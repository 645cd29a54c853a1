"""What a mapping settled: its rules, and how often each of them applied. No cell stands in it."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic_common.data.rules import PatientRules, ValueRules

WORDS = {
    "codes": "cells read by `codes`: {count}",
    "missing": "cells taken for missing, by `missing`: {count}",
    "decimal": "numbers read with the decimal mark {how}: {count}",
    "thousands": "numbers read with {how} between thousands: {count}",
    "units": "numbers read with a unit behind them: {count}",
    "censored": "bounds (such as below a number) taken for {how}: {count}",
    "strand": "genotypes of the {how} strand: {count}",
    "factor": "numbers converted to the study's unit, {how}: {count}",
    "outside_factor": "numbers out of range converted, {how}: {count}",
    "outside": "numbers out of range taken for {how}: {count}",
    "others": "cells that nobody understands taken for missing: {count}",
    "as_is": "looked at by a person and right as it is; values: {count}",
    "absent": "absent from the table, missing for every patient; rows: {count}",
    "absent columns": "columns absent from the table, missing for every patient: {count}",
    "width": "patient numbers with zeros put back in front: {count}",
    "exclude": "rows left out, of patients in `exclude` ({how} are in the table): {count}",
    "empty": "rows without patient id or without content, {how}: {count}",
    "rows": "rows of patients who have several ({how}): {count}",
    "differ": "cells taken for missing where words of a patient's rows differ: {count}",
}
KEPT_AS = {
    "bound": "that number",
    "clamp": "the bound of the range",
    "drop": "dropped",
    "keep": "kept",
    "same": "study's own",
    "first": "the first counts, as it stands",
    "last": "the last counts, as it stands",
    "mean": "their mean counts",
}


@dataclass(frozen=True)
class SettledRule:
    """A rule of the mapping, and how often it applied.

    Attributes
    ----------
    column : str
        The contract's column or panel; of rules about rows the patient number's.
    rule : str
        The line's name: ``outside``.
    count : int
        Cells, or rows.
    how : str
        What the line says, where no cell stands in it: ``clamp``. Empty for codes.
    """

    column: str
    rule: str
    count: int
    how: str = ""

    def __str__(self) -> str:
        """Say it in plain words."""
        how = KEPT_AS.get(self.how, self.how)
        said = WORDS.get(self.rule, "{count} by `" + self.rule + "`")
        return f"{self.column}: {said.format(count=self.count, how=how)}."


def settled_values(
    column: str, given: ValueRules, rules: ValueRules, applied: dict[str, int]
) -> list[SettledRule]:
    """Return the rules that are `given` for a column, and those that applied without.

    Parameters
    ----------
    given, rules : ValueRules
        What is written of the column, and what holds with the table's own marks.
    applied : dict
        How often each rule applied.
    """
    written = given.model_dump(exclude_defaults=True, exclude={"absent"})
    names = [name for name in WORDS if name in written or applied.get(name)]
    return [SettledRule(column, name, applied.get(name, 0), _how(rules, name)) for name in names]


def settled_rows(column: str, rules: PatientRules, applied: dict[str, int]) -> list[SettledRule]:
    """Return what is written about rows, and how often it applied."""
    found = {"exclude": f"{applied.get('excluded numbers', 0)} of {len(rules.exclude)}"}
    found |= {"empty": rules.empty or "", "rows": rules.rows or ""}
    names = ("width", "exclude", "empty", "rows", "differ")
    return [
        SettledRule(column, name, applied[name], found.get(name, ""))
        for name in names
        if name in applied
    ]


def _how(rules: ValueRules, name: str) -> str:
    if name == "factor":
        return _conversion(rules.factor, rules.offset)
    if name == "outside_factor":
        return _conversion(rules.outside_factor or 1.0, rules.outside_offset)
    if name in {"decimal", "thousands", "censored", "outside", "strand"}:
        return str(getattr(rules, name))
    return ""


def _conversion(factor: float, offset: float) -> str:
    return f"times {factor:.9g}" + (f" plus {offset:.9g}" if offset else "")
