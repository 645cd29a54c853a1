"""Models are compared on the same patients, with sampling and noise, and nothing is run in vain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.study import Study
from polyclinic_simulations import simulate
from polyclinic_simulations.report.comparison import Comparison, compare
from polyclinic_simulations.report.differences import beside_formulas, difference
from polyclinic_simulations.results.results import Result
from tests.kits.small import small_study, small_table

SPLIT = {"holdout": {"kind": "column", "column": "split", "test": "test"}}
BOTH: dict[str, Any] = {"modes": ["secure-sum", "none"], "epsilons": [8.0]}


def split_table(patients: int = 240) -> pd.DataFrame:
    table = small_table(patients)
    return table.assign(split=np.where(np.arange(patients) % 4 == 0, "test", "train"))


def compared(study: Study, result: Result) -> Comparison:
    comparison = compare(study, result)
    assert comparison is not None
    return comparison


def test_what_every_seed_would_repeat_is_run_once_on_a_fixed_split(tmp_path: Path) -> None:
    study = small_study(evaluation=SPLIT)
    result = simulate(study, split_table(), seeds=3, out=tmp_path, **BOTH)
    assert [(cell.mode, cell.seed) for cell in result.cells] == [
        *(("secure-sum", seed) for seed in range(3)),
        ("none", 0),
    ]
    kept = [json.loads(path.read_text()) for path in (tmp_path / "cells").glob("*.json")]
    assert sum("pooled_converged" in each for each in kept) == 1
    comparison = compared(study, result)
    assert comparison.open is not None
    assert comparison.open.once
    found = difference(comparison.headline, comparison.open, "auc")
    assert found is not None
    assert len(found.values) == 3  # the one run is taken off each of the three
    pooled = comparison.baseline("pooled_converged")
    assert pooled is not None
    assert len(pooled.scores) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},  # a fraction is held out: another split in every run
        {"evaluation": SPLIT, "model": {"kind": "mlp", "hidden": [3]}},
        {"evaluation": SPLIT, "training": {"rounds": 3, "schedule": "sampled", "batch": 16}},
    ],
)
def test_what_differs_between_seeds_is_run_for_each(changes: dict[str, Any]) -> None:
    study = small_study(**changes)
    result = simulate(study, split_table(), modes=["none"], seeds=2)
    assert [cell.seed for cell in result.cells] == [0, 1]
    assert result.cells[0].test != result.cells[1].test


def test_a_formula_is_compared_on_the_patients_it_can_judge() -> None:
    table = small_table(400)
    table["published rule"] = (table.dose + 5).where(table.sex == "male")
    study = small_study("continuous", training={"rounds": 20})
    result = simulate(study, table, seeds=2, **BOTH)
    comparison = compared(study, result)
    found = beside_formulas(comparison, comparison.headline)[0]
    assert found.fewer
    for seed, scores in found.setting.scores.items():
        own = comparison.headline.scores[seed]
        assert scores.overall["mae"] == pytest.approx(own.by_subgroup["sex = male"]["mae"])
        assert scores.overall["mae"] != own.overall["mae"]
    gap = difference(found.setting, found.formula, "mae")
    assert gap is not None
    assert gap.interval is not None
    assert gap.interval[0] < gap.mean < gap.interval[1]


def test_a_yes_or_no_study_is_headlined_by_what_prevalence_does_not_flatter() -> None:
    table = split_table()
    rare = table.assign(response=np.where(np.arange(len(table)) % 14 == 0, "yes", "no"))
    study = small_study(evaluation=SPLIT)
    result = simulate(study, rare, modes=["none"])
    assert result.main_metric == "auc"
    nobody = compared(study, result).baseline("nobody")
    assert nobody is not None
    test = rare[rare.split == "test"]
    assert nobody.overall("accuracy") == [pytest.approx((test.response == "no").mean())]
    assert nobody.overall("auc") == [0.5]


def test_an_interval_of_a_fixed_split_is_wider_than_its_noise() -> None:
    study = small_study(evaluation=SPLIT)
    comparison = compared(study, simulate(study, split_table(), seeds=3, **BOTH))
    alone = comparison.baseline("local_only_non_private")
    assert alone is not None
    found = difference(comparison.headline, alone, "auc")
    assert found is not None
    assert found.sampling is not None
    assert found.sampling > 0.0
    error = comparison.headline.sampling_error("auc")
    assert error is not None
    assert 0.02 < error < 0.15  # 60 test patients


def test_resamples_stay_out_of_the_result_file(tmp_path: Path) -> None:
    table = small_table()
    table["published rule"] = table.dose.where(table.sex == "male")
    simulate(small_study("continuous"), table, out=tmp_path, **BOTH)
    text = (tmp_path / "result.json").read_text()
    assert "resampled" not in text
    cells = json.loads(text)["cells"]
    assert "rule" in cells[0]["on_formula"]
