"""Options of `polyclinic simulate`: understood as typed, or refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from polyclinic_common.cli.main import main
from polyclinic_simulations.cli.simulate import app
from polyclinic_simulations.report import mlflow_log
from tests.kits.small import small_table


def understood(line: str) -> dict[str, Any]:
    return typer.main.get_command(app).make_context("simulate", line.split()).params


@pytest.mark.parametrize(
    "line",
    [
        "gbsg2 --epsilon 0.5 1 2",
        "gbsg2 --epsilon=0.5 1 2",
        "gbsg2 --epsilon=0.5 --epsilon=1 2",
        "--epsilon=0.5 1 2 gbsg2",
        "--epsilon 0.5 1 --epsilon=2 gbsg2",
    ],
)
def test_several_values_are_understood_in_every_form(line: str) -> None:
    found = understood(line)
    assert (found["study"], found["epsilon"]) == ("gbsg2", (0.5, 1.0, 2.0))


def test_an_option_of_one_value_takes_no_more() -> None:
    found = understood("--mode=local none --seeds=3 gbsg2")
    assert (found["study"], found["mode"], found["seeds"]) == ("gbsg2", ("local", "none"), 3)


@pytest.mark.parametrize("beside", ["gbsg2", "--data patients.csv"])
def test_a_study_beside_a_table_to_draft_from_is_refused(
    tmp_path: Path, beside: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    small_table().to_csv(table, index=False)
    words = f"simulate {beside} --from-table {table} --out {tmp_path}/out"
    with pytest.raises(SystemExit) as caught:
        main([*words.split(), "--outcome-column", "response"])
    assert caught.value.code == 16
    assert "error X003 --from-table drafts a study" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mlflow_is_looked_for_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mlflow_log, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as caught:
        main(f"simulate gbsg2 --mlflow --out {tmp_path}/out".split())
    assert caught.value.code == 16
    assert "error X003 MLflow is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
