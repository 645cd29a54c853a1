"""What a cohort adds up to is what its patients add up to alone, to the last integer.

A patient's row that depends on its place, on who stands beside it, or on how many there are, moves
when another patient is left out: then one patient moves a sum by more than one patient is charged.
Grids here are so fine that a relative change of a billionth is a whole number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from polyclinic_client.compute.integers import IntegerSums
from polyclinic_client.compute.metric_sums import SummedMetrics
from polyclinic_client.compute.patients import BLOCK, Patients
from polyclinic_client.compute.regression_sums import SummedStatistics
from polyclinic_client.compute.training import OpacusGradients
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.layout import make_layout
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.study import Study
from tests.kits.small import small_study, small_table

EXPONENT = -30
GRID = 2.0**EXPONENT
PATIENTS = 12
MLP = {"kind": "mlp", "hidden": [4, 3]}
TABLES = {"private": {"by_site": True, "subgroups": True}}
STUDIES: dict[str, Study] = {
    "binary": small_study("binary", evaluation=TABLES),
    "continuous": small_study("continuous", evaluation=TABLES),
    "survival": small_study("survival", evaluation=TABLES),
    "layers": small_study("binary", model=MLP, evaluation=TABLES),
}


@dataclass(frozen=True)
class Case:
    """A kind of sum, and patients for it."""

    sums: IntegerSums
    patients: Cohort
    weights: Vector

    def of(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        cohort = self.patients.take(np.asarray(rows, dtype=np.int64))
        return self.sums.integer_sum(self.weights, Patients(cohort).blocks())

    def of_each(self) -> NDArray[np.int64]:
        return np.stack([self.of([row]) for row in range(len(self.patients))])


def gradients(study: Study, patients: int) -> Case:
    encoding, weights = ready(study)
    plan = SumPlan(EXPONENT, study.clip, study.clip / GRID, 2**24, 1, weights.size, 1)
    cohort = encoding.encode(small_table(patients), "site 0")
    return Case(OpacusGradients(study, encoding).integer_sums(plan), cohort, weights)


def metrics(study: Study, patients: int) -> Case:
    encoding, weights = ready(study)
    cohort = held_out_cohort(encoding, small_table(patients), "site 0")
    return Case(SummedMetrics(make_layout(study), encoding, 1.0, GRID), cohort, weights)


def statistics(study: Study, patients: int) -> Case:
    encoding, weights = ready(study)
    cohort = encoding.encode(small_table(patients), "site 0")
    return Case(SummedStatistics(2.0**0.5, GRID), cohort, weights)


def ready(study: Study) -> tuple[Encoding, Vector]:
    encoding = Encoding(study)
    weights = initial_weights(study, encoding, 0)
    return encoding, weights + np.random.default_rng(1).normal(0.0, 0.5, weights.size)


CASES: dict[str, Callable[[int], Case]] = {
    **{f"gradient, {name}": partial(gradients, study) for name, study in STUDIES.items()},
    **{f"metrics, {name}": partial(metrics, study) for name, study in STUDIES.items()},
    "statistics": partial(statistics, STUDIES["continuous"]),
}


@pytest.mark.parametrize("name", CASES)
def test_leaving_patients_out_moves_the_sum_by_exactly_their_own_rows(name: str) -> None:
    case = CASES[name](PATIENTS)
    each = case.of_each()
    assert (each != 0).any(axis=1).all(), "a patient adds nothing: the case is not tested"
    left_out = {
        "nobody": range(PATIENTS),
        "the first": range(1, PATIENTS),
        "the last": range(PATIENTS - 1),
        "every other": range(1, PATIENTS, 2),
        "all but one": [7],
        "everybody": [],
    }
    for who, rows in left_out.items():
        assert np.array_equal(case.of(list(rows)), each[list(rows)].sum(axis=0)), who
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(PATIENTS)
        assert np.array_equal(case.of(order), each.sum(axis=0)), "another order"


@pytest.mark.parametrize("name", CASES)
def test_the_first_patient_of_two_blocks_moves_nobody_else(name: str) -> None:
    """All others move up a place, one of them into another block."""
    case = CASES[name](BLOCK + 2)
    moved = case.of(range(BLOCK + 2)) - case.of(range(1, BLOCK + 2))
    assert np.array_equal(moved, case.of([0]))
