"""From a table to a first manifest and a first result, typed as a researcher would."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest

from polyclinic_common.errors import DataError
from polyclinic_common.study import load_study
from polyclinic_simulations.draft.from_table import Roles, draft_study
from polyclinic_simulations.draft.guesses import GUESSED
from polyclinic_simulations.results.results import Result
from tests.kits.required import unavailable
from tests.kits.small import small_table
from tests.kits.typed import typed


def test_a_table_gives_a_first_result_and_a_manifest_to_correct(tmp_path: Path) -> None:
    table = tmp_path / "my table.csv"
    small_table().drop(columns=["dose", "days", "event"]).to_csv(table, index=False)
    words = [
        *["simulate", "--from-table", str(table), "--site-column", "hospital"],
        *["--outcome-column", "response", "--patient-column", "patient", "--out", "out"],
        *["--mode", "none"],
    ]
    done = typed(*words, folder=tmp_path)
    assert done.status == 0, done.err
    manifest = tmp_path / "out" / "my table.toml"
    assert GUESSED in manifest.read_text()
    study = load_study(manifest)
    assert [feature.name for feature in study.cohort.features] == ["age", "sex"]
    assert study.outcome.kind == "binary"
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert cells[0]["test"]["overall"]["auc"] > 0.5
    csv = pd.read_csv(tmp_path / "out" / "cells.csv")
    assert set(csv.group) == {"overall", "site", "subgroup"} - {"subgroup"}
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").iterdir()}
    again = typed(*words, folder=tmp_path)
    assert again.status == 0, again.err
    manifest.write_text(manifest.read_text().replace(GUESSED, "textbook"))
    edited = typed(*words, folder=tmp_path)
    assert edited.status == 11
    assert "error D010" in edited.err
    manifest.write_text(manifest.read_text().replace("textbook", GUESSED))
    follow_up = edited.err.split("`")[1]
    assert follow_up == (
        "polyclinic simulate 'out/my table.toml' --data 'out/my table-table.csv' --out out"
    )
    named = [*shlex.split(follow_up)[1:], "--mode", "none"]
    done = typed(*named, folder=tmp_path)
    assert done.status == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        (Roles("hospital", "response"), "binary"),
        (Roles("hospital", "dose"), "continuous"),
        (Roles("hospital", "days", event="event"), "survival"),
    ],
)
def test_every_kind_of_outcome_is_recognised(tmp_path: Path, roles: Roles, kind: str) -> None:
    small_table().to_csv(tmp_path / "t.csv", index=False)
    study, frame = draft_study(tmp_path / "t.csv", roles, tmp_path / "out")
    assert study.outcome.kind == kind
    assert study.cohort.patient_id == "row"
    assert frame["row"].is_unique


def test_free_text_is_left_out_and_named(tmp_path: Path) -> None:
    notes = [f"note {index}" for index in range(120)]
    small_table().assign(notes=notes).to_csv(tmp_path / "t.csv", index=False)
    study, _ = draft_study(tmp_path / "t.csv", Roles("hospital", "response"), tmp_path / "out")
    assert "notes" not in study.columns()
    assert '"notes"' in (tmp_path / "out" / "t.toml").read_text()


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    small_table().to_csv(tmp_path / "t.csv", index=False)
    for roles in (Roles("clinic", "response"), Roles("hospital", "days", event="sex and age")):
        with pytest.raises(DataError) as caught:
            draft_study(tmp_path / "t.csv", roles, tmp_path / "out")
        assert caught.value.code == "D005"


def test_mlflow_logs_every_cell_once_in_one_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError:
        unavailable("mlflow", "install the extra mlflow")
    from polyclinic_simulations import simulate
    from polyclinic_simulations.report.mlflow_log import log_result
    from tests.kits.small import small_study

    def run(modes: list[str]) -> Result:
        return simulate(small_study(), small_table(), modes=modes, out=tmp_path)

    monkeypatch.chdir(tmp_path)
    log_result(run(["none"]), tmp_path)
    result = run(["local", "none"])
    for _ in range(2):
        log_result(result, tmp_path)
    assert not (tmp_path / "mlruns").exists()
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == result.study]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["mode"] for run in runs) == ["local", "none"]
    logged = {run.data.params["mode"]: run.data.metrics["test_accuracy"] for run in runs}
    assert logged["none"] == result.cells[1].test.overall["accuracy"]
