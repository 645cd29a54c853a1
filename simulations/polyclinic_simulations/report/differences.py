"""Two models on the same patients: their difference, and a published formula beside a setting."""

from __future__ import annotations

from dataclasses import dataclass, replace

from polyclinic_simulations.report.comparison import Comparison, Line, one_run
from polyclinic_simulations.results.intervals import Gap, gap
from polyclinic_simulations.results.results import Scores


def difference(one: Line, other: Line, metric: str) -> Gap | None:
    """Return `one` minus `other` on the same test patients, run by run; None where undefined.

    A line that every run would repeat is taken off each run of the other.
    """
    if one.once and other.once:
        pairs = [(next(iter(one.scores.values())), next(iter(other.scores.values())))]
    else:
        seeds = other.scores if one.once else one.scores
        pairs = [
            (left, right)
            for seed in seeds
            if (left := _of_run(one, seed)) and (right := _of_run(other, seed))
        ]
    return gap([*pairs], metric, noiseless=one.once and other.once)


def _of_run(line: Line, seed: int) -> Scores | None:
    return next(iter(line.scores.values())) if line.once else line.scores.get(seed)


@dataclass(frozen=True)
class BesideFormula:
    """A published formula and a setting on the same patients: those whom the formula can judge.

    `setting` is the setting scored on these patients; `patients` of the `everybody` test patients
    of the first run.
    """

    formula: Line
    setting: Line
    patients: int
    everybody: int

    @property
    def fewer(self) -> bool:
        """Whether the formula needs more than is known of every patient."""
        return self.patients < self.everybody


def beside_formulas(comparison: Comparison, setting: Line) -> list[BesideFormula]:
    """Put every published formula beside `setting`, on the patients of the formula."""
    if not setting.cells:
        return []
    own, first = setting.cells[0].setting, setting.cells[0].baselines
    found = []
    for line in comparison.baselines:
        if line.key != "published" or own not in line.beside:
            continue
        patients = first.published_patients.get(line.formula, first.test_patients)
        same = {
            cell.seed: cell.on_formula[line.formula]
            for cell in setting.cells
            if line.formula in cell.on_formula
        }
        if patients < first.test_patients and not same:
            continue  # a result of an earlier version: the model was never scored on these patients
        judged = replace(setting, scores=one_run(same, once=setting.once) or setting.scores)
        found.append(BesideFormula(line, judged, patients, first.test_patients))
    return found
