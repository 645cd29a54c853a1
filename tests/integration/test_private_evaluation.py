"""Private metrics and votes stand beside exact scores wherever results are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.releases.plain_words import describe
from polyclinic_server.rounds.observers import Checkpoint, Round
from polyclinic_server.rounds.state import KeptSum, State
from polyclinic_simulations import simulate
from polyclinic_simulations.report.comparison import compare
from polyclinic_simulations.report.console import print_result
from polyclinic_simulations.report.private_view import EVERYBODY, private_rows
from polyclinic_simulations.results.results import Result
from tests.kits.small import small_study, small_table

STUDY = small_study(
    "binary",
    training={"rounds": 4},
    privacy={"epsilon": 30.0},
    evaluation={
        "private": {"every": 2, "share": 0.5, "by_site": True, "subgroups": True},
        "acceptance": {"epsilon": 2.0},
    },
)
TABLE = small_table(900)
MODES = ("secure-sum", "local", "none")


def test_result_and_table_hold_private_values_beside_exact_ones(
    folder: Path, result: Result
) -> None:
    frame = pd.read_csv(folder / "cells.csv")
    assert '"suppressed":' in (folder / "result.json").read_text()
    for mode in ("secure-sum", "local"):
        cells = [cell for cell in result.cells if cell.mode == mode]
        assert [[said.round_number for said in cell.private] for cell in cells] == [[2, 4]] * 2
        rows = frame[(frame["mode"] == mode) & (frame["name"] == "all")]
        apart = (rows["accuracy_private"] - rows["accuracy"]).abs()
        assert (apart < 0.2).all()
        assert (rows["accuracy_low"] < rows["accuracy_private"]).all()
        groups = {group.name for group in cells[0].private[-1].groups}
        assert groups == {
            *("all", "site 0", "site 1", "site 2"),
            *("sex = female", "sex = male", "age < 50", "age ≥ 50"),
        }


def test_mode_none_releases_nothing(result: Result) -> None:
    for cell in result.cells:
        if cell.mode == "none":
            assert cell.private == []
            assert cell.verdict is None


def test_every_hospital_voted_once(result: Result) -> None:
    for cell in result.cells:
        if cell.mode != "none":
            assert cell.verdict is not None
            assert cell.verdict.votes == 3


def test_people_see_private_values_with_intervals_and_which_scores_are_exact(
    folder: Path, result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(STUDY, result, folder)
    shown = capsys.readouterr().out
    assert "private metrics at the end" in shown
    assert "exact test scores" in shown
    assert "randomised votes" in shown
    report = (folder / "report.html").read_text()
    assert "Private metrics at the end" in report
    assert "randomised votes" in report
    comparison = compare(STUDY, result)
    assert comparison is not None
    rows = private_rows(STUDY, comparison.private)
    assert {row.group for row in rows} >= {EVERYBODY, "site 0", "sex = male"}


def test_survival_over_time_is_shown_beside_the_concordance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the terminal, the report and the files: exact, private, and at every time of the grid."""
    study = small_study(
        "survival",
        training={"rounds": 4},
        privacy={"epsilon": 50.0},
        evaluation={"private": {"share": 0.9}},
    )
    result = simulate(study, small_table(3000), out=tmp_path)
    print_result(study, result, tmp_path)
    shown, report = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for name in ("C-index", "Time-dependent AUC", "Integrated Brier score"):
        assert name.split()[0] in shown
        assert name in report
    (cell,) = result.cells
    assert [time.time for time in cell.figures.times] == [100, 200, 300, 400]
    for time in cell.figures.times:
        assert time.observed is not None
        assert len(time.fifths) == 5
    comparison = compare(study, result)
    assert comparison is not None
    shown_rows = {row.metric: row for row in private_rows(study, comparison.private)}
    for metric in ("Time-dependent AUC", "Integrated Brier score"):
        assert shown_rows[metric].private != "lost in the noise"
        assert shown_rows[metric].exact != "–"
    assert any(name.startswith("Without the event at 400, where") for name in shown_rows)
    row = result.to_frame().query("group == 'overall'").iloc[0]
    assert row.ibs_low < row.ibs_private < row.ibs_high
    assert 0 < row.ibs < 0.25
    assert cell.baselines.trivial.overall["ibs"] is not None
    assert cell.baselines.cox is not None
    assert (cell.baselines.cox.overall["ibs"] or 1.0) < cell.baselines.trivial.overall["ibs"]


def test_the_study_says_in_plain_words_what_metrics_cost_and_tell() -> None:
    words = " ".join(line for section in describe(STUDY) for line in section.lines)
    assert "It costs 50 % of the budget" in words or "they cost 50 % of the budget" in words
    assert "Metrics are released by hospital" in words
    assert "sends one vote, also to abstain" in words
    silent = " ".join(line for part in describe(small_study()) for line in part.lines)
    assert "No metric leaves the hospitals" in silent


def test_released_sums_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    released = (
        KeptSum(2, np.array([1.5, -2.0]), ("site 0", "site 2")),
        KeptSum(4, np.array([0.25, 3.0]), ("site 1",)),
    )
    state = State(4, np.ones(3), np.zeros(3), np.ones(3), b"carried", released)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    checkpoint.after_round(Round(4, {}, state))
    found = checkpoint.load()
    assert found is not None
    for mine, theirs in zip(found.released, released, strict=True):
        assert (mine.round_number, mine.sites) == (theirs.round_number, theirs.sites)
        assert np.array_equal(mine.total, theirs.total)
