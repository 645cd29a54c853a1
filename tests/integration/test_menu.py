"""A study with a menu says what each setting reached, which one was kept, and what that cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from polyclinic_common.errors import StudyError
from polyclinic_common.releases.plans import local_sum_plan, noise_plan
from polyclinic_simulations import simulate
from polyclinic_simulations.baselines.alone import train_alone
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.report.comparison import compare
from polyclinic_simulations.report.console import print_result
from polyclinic_simulations.report.private_view import menu_rows
from polyclinic_simulations.results.results import Result
from polyclinic_simulations.sweep.store import Piece
from tests.kits.noise import Recorder
from tests.kits.small import small_study, small_table

ROUNDS = 4
STUDY = small_study(
    "binary",
    training={
        "rounds": ROUNDS,
        "menu": [{"learning_rate": 1e-3}, {"learning_rate": 16, "momentum": 0.5}],
    },
    privacy={"epsilon": 30.0},
    evaluation={"private": {"share": 0.5, "metrics": ["brier", "accuracy"]}, "metrics": ["auc"]},
)
TABLE = small_table(900)
MODES = ("secure-sum", "local", "none")


def test_the_result_names_every_setting_with_its_metric_and_the_chosen_one(
    folder: Path, result: Result
) -> None:
    for cell in result.cells:
        slow, quick = cell.menu
        assert (slow.chosen, quick.chosen) == (False, True)
        assert (quick.learning_rate, quick.momentum, quick.average_from) == (16, 0.5, 0.5)
        assert {slow.metric, quick.metric} == {"brier"}
        assert slow.exact is not None
        assert quick.exact is not None
        assert quick.exact < slow.exact
        assert cell.timing.rounds == 2 * ROUNDS
        assert cell.figures.curve_rounds == [1, 2, 3, 4]
        if cell.mode == "none":
            assert quick.private is slow.private is None
            continue
        assert quick.private is not None
        assert quick.private.low < quick.private.value < quick.private.high
        assert abs(quick.private.value - quick.exact) < 0.1
        assert cell.privacy.epsilon is not None
        assert 0.99 * 30 < cell.privacy.epsilon <= 30
        overall = cell.private_of("overall", "all")
        assert overall is not None
        assert overall.metrics["brier"] == quick.private
    kept = json.loads((folder / "result.json").read_text())["cells"][0]["menu"]
    assert [each["chosen"] for each in kept] == [False, True]
    assert kept[1]["private"].keys() == {"value", "low", "high"}


def test_the_learning_curve_ends_at_the_chosen_model(result: Result) -> None:
    for cell in result.cells:
        assert cell.figures.curve_values[-1] == pytest.approx(cell.test.overall["auc"])


def test_what_it_is_compared_with_trains_once_with_the_study_s_own_setting() -> None:
    setting = Setting("none", None, "descent")
    made = build_federation(setting.apply(STUDY), TABLE, seed=0)
    site = made.sites[0]
    weights = train_alone(made, site.train, site.declared, setting)
    plain = train_alone(made.without_menu, site.train, site.declared, setting)
    assert np.array_equal(weights, plain)
    assert Piece(0, Setting("local", 30.0, "descent")).units(STUDY) == 3 * ROUNDS
    assert Piece(0, setting).units(STUDY) == 2 * ROUNDS
    assert Piece(0, setting, baselines=True).units(STUDY) == ROUNDS


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_a_hospital_alone_adds_the_noise_of_one_training(mode: str) -> None:
    setting = Setting(mode, 30.0, "descent")
    made, recorder = build_federation(setting.apply(STUDY), TABLE, seed=0), Recorder()
    site = made.sites[0]
    train_alone(made, site.train, site.declared, setting, Trainer(noise=lambda _: recorder))
    study = made.without_menu.study
    plan = noise_plan(study, site.declared, 30.0)
    sums = local_sum_plan(study, "products", site.declared, plan)
    assert recorder.variances == [sums.variance] * ROUNDS


def test_people_see_the_choice_and_what_it_cost(
    folder: Path, result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(STUDY, result, folder)
    comparison = compare(STUDY, result)
    assert comparison is not None
    rows = menu_rows(STUDY, comparison.settings)
    assert [row.chosen for row in rows] == ["in 0 of 2 runs", "in 2 of 2 runs"] * len(MODES)
    assert rows[1].setting == "learning rate 16, momentum 0.5"
    for shown in (capsys.readouterr().out, (folder / "report.html").read_text()):
        for words in (
            "Two settings are trained one after the other, 4 rounds each",
            "each setting has half of the budget of training",
            "1.41 times that of a study with one setting",
            "the exact brier of the held-out patients decides",
            "Hospitals on their own, and pooled data, train once",
            "learning rate 16, momentum 0.5",
        ):
            assert words in shown.replace("&#39;", "'")
    assert "8: 4 for each of 2 settings" in (folder / "report.html").read_text()


def test_a_strategy_that_cannot_choose_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(StudyError) as caught:
        simulate(STUDY, TABLE, modes=["local"], strategies=["fedavg"])
    assert "a menu needs" in caught.value.problems[0].what
