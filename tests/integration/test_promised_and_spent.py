"""Where a run may cost less than was approved, what was promised is told from what was spent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyclinic_common.cli.main import app
from polyclinic_server.rounds.metric_sums import MetricReader
from polyclinic_server.runs.folder import RUNS, Event, RunDescription, RunFolder, RunSite
from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table

ROUNDS, STOPPED = 8, 4


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_training_that_stops_early_spends_less_than_was_promised(
    mode: str,
    steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And level and slope are set right all the same."""
    monkeypatch.setattr(MetricReader, "stops", lambda _, released: len(released) == STOPPED // 2)
    calibration = {"calibration": {"steps": steps}} if steps else {}
    study = small_study(
        training={"rounds": ROUNDS} | calibration,
        privacy={"mode": mode, "epsilon": 4.0},
        evaluation={"private": {"metrics": ["accuracy"], "every": 2, "patience": 1}},
    )
    result = simulate(study, small_table(), out=tmp_path)
    (cell,) = result.cells
    assert cell.timing.rounds == STOPPED + steps
    assert cell.epsilon == cell.privacy.epsilon_promised == 4.0
    assert cell.privacy.epsilon is not None
    assert 1.0 < cell.privacy.epsilon < 3.5
    assert set(result.to_frame().epsilon_spent) == {cell.privacy.epsilon}
    page = (tmp_path / "report.html").read_text()
    assert f"Promised was ε = 4 at most. Spent was ε = {cell.privacy.epsilon:.3g}" in page


def test_run_show_says_what_was_promised_and_where_it_stands_what_was_spent(
    tmp_path: Path,
) -> None:
    study = small_study(training={"rounds": ROUNDS}, privacy={"epsilon": 4.0})
    site = RunSite(node_key="k", declared=40, held_out=10, identity="00" * 32)
    sites = dict.fromkeys(study.roster.sites, site)
    description = RunDescription(
        run="r", study=study.model_dump_json(), sites=sites, largest=40, fewest=study.m
    )
    run, command = RunFolder.create(tmp_path / RUNS, description), ["server", "run", "show", "r"]
    for stopped in (True, False):
        first, end = (1, STOPPED) if stopped else (STOPPED + 1, ROUNDS)
        for number in range(first, end + 1):
            run.note(Event(at=time.time(), what="round", round=number))
        run.note(Event(at=time.time(), what="finished", round=end))
        done = CliRunner().invoke(app, [*command, "--folder", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert "promised: epsilon 4 at most" in done.output
        assert "spent: what each hospital's ledger says" in done.output
        assert (f"stopped early, after {STOPPED} of {ROUNDS} rounds" in done.output) == stopped
