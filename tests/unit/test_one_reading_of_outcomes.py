"""Who is trained, held out, declared and scored follows from one reading of outcomes.

Tables with odd outcomes are generated; who has a known outcome is written by hand here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polyclinic_client.run.approved_study import approved_with
from polyclinic_common.data.check import check_table
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.outcome import read_outcome
from polyclinic_common.evaluation.observed import held_out_cohort, observe
from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.study import Study
from polyclinic_simulations.federation.federation import build_federation
from tests.kits.small import small_study, small_table

SITES = 3
NOTHING = math.nan
# What stands in a cell, and the number that a patient then has: 0 to 100, by hand.
DOSES: dict[str, float] = {
    "50": 50.0,
    " 50 ": 50.0,
    "0": 0.0,
    "100": 100.0,
    "100.5": NOTHING,
    "-1": NOTHING,
    "999": NOTHING,
    "1e9": NOTHING,
    "inf": NOTHING,
    "nan": NOTHING,
    "": NOTHING,
    "NA": NOTHING,
    "5,0": NOTHING,
    "<5": NOTHING,
    "dead": NOTHING,
}
ANSWERS: dict[str, float] = {
    "yes": 1.0,
    "no": 0.0,
    " yes": 1.0,
    "YES": NOTHING,
    "1": NOTHING,
    "maybe": NOTHING,
    "": NOTHING,
    "None": NOTHING,
    "9": NOTHING,
}
TIMES: dict[str, float] = {
    "0": 0.0,
    "50": 50.0,
    "399": 399.0,
    "5000": 5000.0,
    "-1": NOTHING,
    "1e9": NOTHING,
    "": NOTHING,
    "inf": NOTHING,
    "x": NOTHING,
}
EVENTS: dict[str, float] = {
    "1": 1.0,
    "0": 0.0,
    "1.0": 1.0,
    "TRUE": 1.0,
    "false": 0.0,
    "2": NOTHING,
    "": NOTHING,
    "dead": NOTHING,
}
CELLS = {
    "continuous": {"dose": DOSES},
    "binary": {"response": ANSWERS},
    "survival": {"days": TIMES, "event": EVENTS},
}
HOLDOUTS: tuple[dict[str, Any], ...] = (
    {"kind": "fraction", "fraction": 0.4},
    {"kind": "column", "column": "split", "test": "test"},
)


def a_study(kind: str, holdout: dict[str, Any]) -> Study:
    return small_study(kind, SITES, evaluation={"holdout": holdout})


@st.composite
def tables(draw: st.DrawFn, kind: str) -> tuple[pd.DataFrame, list[bool], list[float]]:
    """Return a table, who has a known outcome, and which: the last two by hand."""
    rows = draw(st.integers(9, 30))
    frame = small_table(rows, SITES, seed=draw(st.integers(0, 9))).astype(object)
    frame["split"] = draw(
        st.lists(st.sampled_from(["test", "train", ""]), min_size=rows, max_size=rows)
    )
    values: dict[str, list[float]] = {}
    for column, meant in CELLS[kind].items():
        cells = draw(st.lists(st.sampled_from(sorted(meant)), min_size=rows, max_size=rows))
        frame[column] = cells
        values[column] = [meant[cell] for cell in cells]
    known = [not any(map(math.isnan, row)) for row in zip(*values.values(), strict=True)]
    first = next(iter(values.values()))
    return frame, known, [v if k else NOTHING for v, k in zip(first, known, strict=True)]


@pytest.mark.parametrize("holdout", HOLDOUTS, ids=lambda each: str(each["kind"]))
@pytest.mark.parametrize("kind", list(CELLS))
def test_trained_held_out_declared_and_scored_are_the_same_patients(
    kind: str, holdout: dict[str, Any]
) -> None:
    study = a_study(kind, holdout)
    encoding = Encoding(study)

    @settings(max_examples=40, deadline=None)
    @given(made=tables(kind))
    def check(made: tuple[pd.DataFrame, list[bool], list[float]]) -> None:
        frame, known, values = made
        read = read_outcome(study.outcome, frame)
        np.testing.assert_array_equal(read.known, known)
        np.testing.assert_array_equal(observe(study, frame).value, values)  # scored
        trained = encoding.encode(frame, "site 0")
        held = held_out_cohort(encoding, frame, "site 0")
        np.testing.assert_array_equal(held.mask[:, 0] == 1.0, known)
        np.testing.assert_array_equal(held.y[known, 0], np.array(values)[known])
        assert_trained(kind, trained.mask, known, values)
        report = check_table(study, frame)
        assert report.without_outcome == len(known) - sum(known)
        assert report.rows == len(frame)

    check()


def assert_trained(kind: str, mask: Any, known: list[bool], values: list[float]) -> None:
    """Nobody without a known outcome is trained on, and everybody with one is.

    A survival time that ends within the first interval without event is at risk in none.
    """
    counts = mask.any(axis=1)
    assert not (counts & ~np.array(known)).any()
    expected = np.array(known)
    if kind == "survival":
        expected = expected & (np.nan_to_num(np.array(values)) > 100.0)  # the first grid time
        assert counts[expected].all()
    else:
        np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("kind", list(CELLS))
def test_a_node_and_a_simulation_take_the_same_patients_for_the_same_things(kind: str) -> None:
    """Outcomes never decide who is trained on, held out or declared: they decide what counts."""
    study = a_study(kind, HOLDOUTS[1])
    keys = {name: Identity.generate().public for name in study.roster.sites}
    roster = Roster.of(keys)
    declared = dict.fromkeys(study.roster.sites, 10)

    @settings(max_examples=25, deadline=None)
    @given(made=tables(kind))
    def check(made: tuple[pd.DataFrame, list[bool], list[float]]) -> None:
        frame, known, values = made
        test = (frame["split"] == "test").to_numpy()
        assume(0 < test.sum() < len(test))  # a simulation needs both
        simulated = build_federation(study, frame, 0)
        for site in simulated.sites:
            here = (frame["hospital"] == site.name).to_numpy()
            node = approved_with(
                study, roster, frozenset(), declared, site.name, frame.loc[here].copy
            )
            assert len(node.cohort) == len(site.train) == (here & ~test).sum()
            assert len(node.held_out) == len(site.test) == (here & test).sum()
            np.testing.assert_array_equal(node.cohort.mask, site.train.mask)
            np.testing.assert_array_equal(node.cohort.y, site.train.y)
            np.testing.assert_array_equal(
                node.held_out.mask[:, 0] == 1.0, np.isfinite(site.observed.value)
            )
            np.testing.assert_array_equal(site.observed.value, np.array(values)[here & test])
            np.testing.assert_array_equal(
                np.isfinite(site.observed_train.value), np.array(known)[here & ~test]
            )
            assert site.declared == max(10, round(here.sum() / 10) * 10)

    check()
