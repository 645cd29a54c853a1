"""The choice from a menu, and the turn from one setting to the next, do what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic_common.study import Study, parse_study
from polyclinic_common.study.sections import MenuEntry
from polyclinic_server.rounds.combiner import Descent, make_combiner
from polyclinic_server.rounds.menu import Menu
from polyclinic_server.rounds.metric_sums import first_best, merit
from polyclinic_server.rounds.observers import Round
from polyclinic_server.rounds.plan import make_menu
from polyclinic_server.rounds.state import State
from polyclinic_server.runs.quality import Quality
from polyclinic_simulations.federation.observers import RoundHistory
from tests.kits.small import study_data

ENTRIES = ({"learning_rate": 4.0}, {"momentum": 0.5, "average_from": 0.0}, {"learning_rate": 16.0})
ROUNDS = 3
VALUES = st.one_of(st.none(), st.floats(0, 1))


def study() -> Study:
    data = study_data(
        training={"rounds": ROUNDS, "menu": [dict(entry) for entry in ENTRIES]},
        evaluation={"private": {}},
    )
    return parse_study(data, "menu.toml")


@given(st.lists(VALUES, min_size=1, max_size=5), st.sampled_from(["accuracy", "mae"]))
def test_the_first_of_the_best_defined_values_is_chosen(
    values: list[float | None], metric: str
) -> None:
    chosen = first_best([merit(metric, value) for value in values])
    known = [value for value in values if value is not None]
    if not known:
        assert chosen == 0
        return
    best = min(known) if metric == "mae" else max(known)
    assert values[chosen] == best
    assert best not in values[:chosen]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.data())
def test_a_change_of_a_value_that_was_not_chosen_for_the_worse_changes_nothing(
    values: list[float], data: st.DataObject
) -> None:
    chosen = first_best(values)
    other = data.draw(st.sampled_from([i for i in range(len(values)) if i != chosen]))
    worse = values.copy()
    worse[other] = data.draw(st.one_of(st.just(-math.inf), st.floats(-1, values[other])))
    assert first_best(worse) == chosen


def test_a_menu_trains_what_studies_of_one_setting_each_would() -> None:
    made = study()
    assert made.rounds == ROUNDS * len(ENTRIES)
    assert made.metric_rounds == (3, 6, 9)
    assert [(each.learning_rate, each.training.momentum) for each in made.settings] == [
        (4.0, 0.9),
        (32.0, 0.5),
        (16.0, 0.9),
    ]
    for each, entry in zip(made.settings, ENTRIES, strict=True):
        data = study_data(training={"rounds": ROUNDS} | entry, evaluation={"private": {}})
        assert each.hash() == parse_study(data, "one.toml").hash()
    alone = made.trained_with(MenuEntry())
    assert (alone.rounds, alone.settings) == (ROUNDS, (alone,))


def trained(cut: int | None) -> State:
    """Train without patients, every round with the same gradient; turn twice after round `cut`."""
    made, start = study(), np.array([1.0, -1.0, 0.5])
    combiner = make_combiner(made, start, 0.1, {"a": 10})
    assert isinstance(combiner, Descent)
    menu = Menu(len(ENTRIES), ROUNDS, start, lambda state: len(state.candidates) - 2)
    state = State.start(start)
    while state.round_number < made.rounds:
        state = menu.turned(combiner.descend(state, np.array([1.0, 2.0, -1.0]), ["a"]))
        if state.round_number == cut:
            state = menu.turned(state)
    return state


def test_every_setting_starts_anew_and_averages_its_own_rounds() -> None:
    made, start = study(), np.array([1.0, -1.0, 0.5])
    found = trained(cut=None)
    for each, candidate in zip(made.settings, found.candidates, strict=True):
        combiner = make_combiner(each, start, 0.1, {"a": 10})
        assert isinstance(combiner, Descent)
        state = State.start(start)
        while state.round_number < ROUNDS:
            state = combiner.descend(state, np.array([1.0, 2.0, -1.0]), ["a"])
        assert np.array_equal(state.average, candidate)
    assert found.chosen == 1
    assert np.array_equal(found.average, found.candidates[1])
    assert len({tuple(each) for each in found.candidates}) == len(ENTRIES)


@pytest.mark.parametrize("cut", range(1, ROUNDS * len(ENTRIES) + 1))
def test_turning_twice_changes_nothing(cut: int) -> None:
    once, twice = trained(cut=None), trained(cut)
    assert twice.chosen == once.chosen
    assert np.array_equal(twice.candidates, once.candidates)
    assert np.array_equal(twice.average, once.average)


def test_a_menu_without_anything_to_choose_by_is_no_plan() -> None:
    with pytest.raises(ValueError, match="no metrics"):
        make_menu(study(), np.zeros(3), None)


def test_a_learning_curve_shows_the_rounds_of_one_setting() -> None:
    history = RoundHistory(every=2)
    for number in range(1, 10):
        model = np.full(1, float(number))
        history.after_round(Round(number, {}, State(number, model, model, model)))
    kept = history.of_setting(1, ROUNDS)
    assert kept.rounds == [1, 3]
    assert [model[0] for model in kept.models] == [4.0, 6.0]


def test_the_operator_is_told_which_setting_was_chosen() -> None:
    quality = Quality.of(None, State.start(np.zeros(1)))
    assert quality.lines() == []
    said = Quality(metrics=(), chosen=2).lines()
    assert said[0].startswith("chosen: setting 2")
