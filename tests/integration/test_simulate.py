"""A simulation keeps its promises: the same answers, honest baselines, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.data.holdout import held_out
from polyclinic_common.data.mapping import parse_mapping
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.study import Study
from polyclinic_simulations import simulate
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.results.results import Result
from polyclinic_simulations.studies import resolve
from polyclinic_simulations.sweep.store import Piece
from polyclinic_simulations.sweep.watcher import Silent
from tests.kits.small import small_study, small_table
from tests.kits.watcher import Recorder

RESULT_KEYS = {
    *{"mode", "epsilon", "seed", "engine", "privacy", "test", "baselines", "timing"},
    "study_hash",
}
BASELINE_KEYS = {
    "trivial",
    "local_only_private",
    "local_only_non_private",
    "pooled_same_trainer",
    "pooled_converged",
    "published",
}


@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_result_json_has_every_key_that_is_promised(kind: str, tmp_path: Path) -> None:
    modes = ["secure-sum", "local", "none"]
    simulate(small_study(kind), small_table(), modes=modes, seeds=2, out=tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"study", "study_hash", "cells"} <= set(result)
    assert len(result["cells"]) == 6
    for cell in result["cells"]:
        assert set(cell) >= RESULT_KEYS
        assert set(cell["privacy"]) >= {"epsilon", "delta", "unit", "adjacency", "accountant"}
        assert set(cell["test"]) == {"overall", "by_site", "by_subgroup"}
        assert set(cell["test"]["overall"]) == set(METRICS)
        assert set(cell["test"]["by_site"]) == {"site 0", "site 1", "site 2"}
        assert "sex = male" in cell["test"]["by_subgroup"]
        assert set(cell["baselines"]) >= BASELINE_KEYS
        assert set(cell["timing"]) == {"total_s", "train_s", "rounds"}
    assert "figures" not in result["cells"][0]
    assert (tmp_path / "report.html").read_text().lower().startswith("<!doctype html>")


def overall(result: Result, baseline: str | None = None) -> list[dict[str, float | None]]:
    if baseline is None:
        return [cell.test.overall for cell in result.cells]
    return [getattr(cell.baselines, baseline).overall for cell in result.cells]


def test_seeds_fix_the_split_and_never_the_noise() -> None:
    """Two private runs of one seed are equal with probability below 2^-500."""
    study, table = small_study("continuous"), small_table()
    first, second = (simulate(study, table, epsilons=[1.0]) for _ in range(2))
    assert overall(first, "pooled_same_trainer") == overall(second, "pooled_same_trainer")
    assert overall(first) != overall(second)
    plain = [overall(simulate(study, table, modes=["none"])) for _ in range(2)]
    assert plain[0] == plain[1]
    assert not np.array_equal(held_out(study, table, 0), held_out(study, table, 1))


def test_parallel_workers_find_what_one_process_finds(tmp_path: Path) -> None:
    study, table = small_study(), small_table()
    alone = simulate(study, table, modes=["none"], seeds=3)
    together = simulate(study, table, modes=["none"], seeds=3, workers=2)
    assert overall(alone) == overall(together)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_call_runs_only_what_is_missing(tmp_path: Path, workers: int) -> None:
    study, table = small_study(), small_table()
    first = simulate(study, table, seeds=2, out=tmp_path, workers=workers)
    watcher = Recorder()
    more = simulate(study, table, seeds=3, out=tmp_path, watcher=watcher, workers=workers)
    rounds = study.training.rounds
    assert watcher.total == watcher.done == 3 * rounds  # baselines, run, hospitals alone
    assert more.cells[:2] == first.cells
    again = Recorder()
    assert simulate(study, table, seeds=3, out=tmp_path, watcher=again) == more
    assert again.total == 0


def test_a_changed_table_or_study_never_meets_old_cells(tmp_path: Path) -> None:
    study, table = small_study(), small_table()
    simulate(study, table, modes=["none"], out=tmp_path)
    for changed_study, changed_table in (
        (small_study(version="1.0.1"), table),
        (study, small_table(seed=1)),
    ):
        watcher = Recorder()
        simulate(changed_study, changed_table, modes=["none"], out=tmp_path, watcher=watcher)
        assert watcher.total > 0


class StopAfter(Silent):
    """Interrupts like Ctrl-C after some rounds."""

    def __init__(self, units: float):
        self.left = units

    def advance(self, units: float) -> None:
        self.left -= units
        if self.left < 0:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_finished_and_the_next_call_goes_on(tmp_path: Path) -> None:
    study, table = small_study(), small_table()
    one_seed = Piece(0, Setting("none", None, "descent")).units(study) * 2
    with pytest.raises(KeyboardInterrupt):
        simulate(
            study, table, modes=["none"], seeds=3, out=tmp_path, watcher=StopAfter(one_seed + 9)
        )
    watcher = Recorder()
    result = simulate(study, table, modes=["none"], seeds=3, out=tmp_path, watcher=watcher)
    assert len(result.cells) == 3
    assert watcher.total < 3 * one_seed
    assert overall(result) == overall(simulate(study, table, modes=["none"], seeds=3))


def test_a_damaged_cell_is_run_again(tmp_path: Path) -> None:
    study, table = small_study(), small_table()
    whole = simulate(study, table, modes=["none"], out=tmp_path)
    for path in (tmp_path / "cells").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    again = simulate(study, table, modes=["none"], out=tmp_path)
    assert overall(again) == overall(whole)


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_reported_epsilon_is_that_of_the_noise_added(mode: str) -> None:
    """Never above what was asked for; below by what a whole variance from 2^24 on rounds up."""
    result = simulate(small_study(), small_table(), modes=[mode], epsilons=[0.5, 2.0])
    for asked, cell in zip([0.5, 2.0], result.cells, strict=True):
        assert cell.privacy.epsilon is not None
        assert asked * (1 - 1e-7) <= cell.privacy.epsilon <= asked
    plain = simulate(small_study(), small_table(), modes=["none"])
    assert plain.cells[0].privacy.epsilon is None


def test_more_budget_is_nearer_to_no_privacy() -> None:
    """With 600 patients, epsilon 50 against 0.05; both sides differ by far more than noise."""
    study, table = small_study("continuous", training={"rounds": 40}), small_table(600)
    result = simulate(study, table, modes=["local", "none"], epsilons=[0.05, 50.0])
    low, high, none = (cell.test.overall["mae"] or 0.0 for cell in result.cells)
    assert abs(high - none) < 0.3 * abs(low - none)


@pytest.mark.parametrize("holdout", ["column", "sites"])
def test_split_column_and_test_sites_hold_out_what_they_say(holdout: str) -> None:
    sections = {
        "column": {"kind": "column", "column": "fold", "test": "2"},
        "sites": {"kind": "sites", "sites": ["site 2"]},
    }
    study = small_study(sites=4, evaluation={"holdout": sections[holdout]})
    table = small_table(sites=4).assign(fold=lambda t: (t.index % 5).astype(str))
    made = build_federation(study, table, 0)
    if holdout == "sites":
        assert [site.name for site in made.training_sites] == ["site 0", "site 1", "site 3"]
        assert [len(site.test) for site in made.sites] == [0, 0, 30, 0]
    else:
        assert sum(len(site.test) for site in made.sites) == 24
    result = simulate(study, table)
    if holdout == "sites":
        assert result.cells[0].baselines.local_only_private is None


def awkward(table: pd.DataFrame, what: str) -> pd.DataFrame:
    first = table.hospital == "site 0"
    if what == "empty site":
        return table[~first]
    if what == "one patient":
        return pd.concat([table[first].head(1), table[~first]])
    if what == "column missing at one site":
        return table.assign(age=table.age.where(~first))
    if what == "nearly all positive":
        return table.assign(response=table.response.where(~first | (table.index % 13 == 0), "yes"))
    return table.assign(age=table.age.where(table.index % 7 != 0))  # NaN here and there


@pytest.mark.parametrize(
    "what",
    ["empty site", "one patient", "column missing at one site", "nearly all positive", "NaN"],
)
@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_awkward_sites_train_and_are_reported(what: str, kind: str) -> None:
    modes = ["secure-sum", "local", "none"]
    result = simulate(small_study(kind), awkward(small_table(), what), modes=modes)
    for cell in result.cells:
        assert cell.test.overall["accuracy" if kind == "binary" else "c_index"] is not None
    if what == "empty site":
        assert set(result.cells[0].test.by_site["site 0"].values()) == {None}


def refused(study: Study, table: pd.DataFrame, **options: object) -> str:
    with pytest.raises(PolyclinicError) as caught:
        simulate(study, table, **options)  # type: ignore[arg-type]
    assert caught.value.remedy
    return caught.value.code


def test_bad_input_is_refused_whole_before_anything_is_trained() -> None:
    study, table = small_study(), small_table()
    assert refused(study, table.drop(columns="hospital")) == "D005"
    assert refused(study, table.assign(hospital="elsewhere")) == "D008"
    assert refused(study, table.assign(patient="the same")) == "D007"
    assert refused(study, table.drop(columns="response")) == "D007"
    assert refused(study, table.assign(age=table.age / 10)) == "D007"  # decades
    assert refused(small_study(expires="2020-01-01"), table) == "S005"
    assert refused(study, table, modes=["secret"]) == "X003"
    assert refused(study, table, seeds=0) == "X003"
    assert refused(study, table, epsilons=[-1.0]) == "P001"
    assert refused(small_study(privacy={"delta": 1e-3}), small_table(3000)) == "P002"
    nobody = small_study(evaluation={"holdout": {"kind": "column", "column": "fold", "test": "x"}})
    one_word = table.assign(fold="y")
    assert refused(nobody, one_word) == "D007"
    looked_at = parse_mapping("[columns.fold]\nsource = 'fold'\nas_is = true", "map.toml")
    assert refused(nobody, one_word, mapping=looked_at) == "X001"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_fails_says_so_from_whatever_process(workers: int) -> None:
    study = small_study("continuous", training={"rounds": 20, "learning_rate": 1e3})
    assert refused(study, small_table(), modes=["none"], seeds=2, workers=workers) == "R002"


def test_patients_of_two_hospitals_are_not_spread_into_one() -> None:
    table = small_table().assign(patient=lambda t: (t.index // 3).astype(str))
    assert refused(small_study(), table, sites=[4]) == "D007"
    assert refused(small_study(), small_table(), epsilons=[1e6]) == "X003"


def test_an_output_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(small_study(), small_table(), out=tmp_path / "file") == "X002"
    assert refused(small_study(), small_table(), out=tmp_path / "file" / "below") == "X002"


def test_gbsg2_has_its_patients_and_unequal_hospitals() -> None:
    study, table = resolve("gbsg2", None)
    sizes = table.groupby("hospital").size()
    assert (len(table), len(sizes)) == (686, 12)
    assert sizes.max() > 4 * sizes.min()
    assert table.equals(resolve("gbsg2", None)[1])
    assert study.privacy.mode == "secure-sum"


@pytest.mark.realdata
def test_heart_beats_the_published_federated_figures(realdata: Path) -> None:
    """FLamby publishes 0.732 for its best federated strategy, mean of the four hospitals."""
    result = simulate("heart", realdata, modes=["none"])
    assert result.cells[0].test.mean_of_sites("accuracy") == pytest.approx(0.84, abs=0.02)
    assert [site.train + site.test for site in result.sites] == [303, 261, 46, 130]


def test_heart_without_data_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POLYCLINIC_DATA", raising=False)
    for folder in (None, tmp_path):
        with pytest.raises(PolyclinicError) as caught:
            simulate("heart", folder)
        assert caught.value.code == "D009"
        assert "POLYCLINIC_DATA" in caught.value.remedy
