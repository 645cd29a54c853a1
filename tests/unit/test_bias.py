"""Groups of patients beside all patients: gaps with honest intervals, and no false comfort."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from polyclinic_common.bundle.bias import (
    ALL,
    LOST,
    NOTHING_BESIDE,
    TOO_FEW,
    BiasTable,
    bias_tables,
    gap_between,
    overall_calibration,
)
from polyclinic_common.bundle.card_page import card_html
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.reading import BinReading, GroupReading
from polyclinic_common.evaluation.survival_reading import TimeReading
from polyclinic_simulations.audit.coverage import Kind, study_of
from tests.kits.cards import evaluation_of, made_up_card, made_up_groups, usual_card

WOMEN, MEN = "sex = f", "sex = m"


def group(
    name: str, reading: Reading | None, metric: str = "accuracy", *, suppressed: bool = False
) -> GroupReading:
    kind = "subgroup" if name else "overall"
    metrics = {} if suppressed else {metric: reading}
    return GroupReading(kind, name, 500.0, 5.0, suppressed=suppressed, metrics=metrics)  # type: ignore[arg-type]


def judgements(*groups: GroupReading, kind: Kind = "binary") -> dict[str, str]:
    (table,) = bias_tables(study_of(kind), groups)
    return {row.group: row.judgement for row in table.rows}


def around(value: float, half: float = 0.02) -> Reading:
    return Reading(value, value - half, value + half)


def test_a_gap_has_the_interval_of_a_difference() -> None:
    gap = gap_between(Reading(0.7, 0.67, 0.74), Reading(0.8, 0.76, 0.83))
    assert gap.value == pytest.approx(-0.1)
    assert gap.low == pytest.approx(-0.1 - (0.03**2 + 0.03**2) ** 0.5)
    assert gap.high == pytest.approx(-0.1 + (0.04**2 + 0.04**2) ** 0.5)


def test_a_group_that_does_worse_is_named_whichever_way_the_metric_points() -> None:
    found = judgements(group("", around(0.8)), group(WOMEN, around(0.7)), group(MEN, around(0.9)))
    assert found == {
        ALL: "",
        WOMEN: "worse than all patients",
        MEN: "better than all patients",
    }
    errors = judgements(
        group("", around(0.2), "brier"),
        group(WOMEN, around(0.1), "brier"),
        group(MEN, around(0.3), "brier"),
    )
    assert errors[WOMEN] == "better than all patients"
    assert errors[MEN] == "worse than all patients"


def test_where_nothing_is_clear_the_worst_that_could_be_is_said() -> None:
    found = judgements(group("", around(0.8)), group(WOMEN, around(0.79)))
    assert found[WOMEN] == "not clear: could be up to 3.8 points worse"


def test_a_group_that_is_too_small_is_not_judged_and_its_figures_are_not_shown() -> None:
    overall = group("", around(0.8))
    (table,) = bias_tables(study_of("binary"), [overall, group(WOMEN, None, suppressed=True)])
    women = table.rows[1]
    assert (women.value, women.gap, women.judgement) == (None, None, TOO_FEW)
    assert judgements(overall, group(WOMEN, None))[WOMEN] == LOST
    none = judgements(group("", None), group(WOMEN, around(0.5)))
    assert none == {ALL: LOST, WOMEN: NOTHING_BESIDE}


def test_no_card_ever_says_that_there_is_no_difference() -> None:
    card = usual_card()
    page = card_html(card)
    assert TOO_FEW in page
    assert "Cannot be judged, altogether or in part: sex = f" in page
    for comfort in ("no difference", "no gap", "equally", "alike for", "unbiased"):
        assert comfort not in page.lower(), comfort


def test_the_card_names_the_group_that_stands_out() -> None:
    groups = [group("", around(0.8)), group(WOMEN, around(0.7)), group(MEN, around(0.81))]
    card = made_up_card(study_of("binary"), evaluation_of(groups))
    said = " ".join(card.items["tripod.14"].value)  # type: ignore[arg-type]
    assert "sex = f: Accuracy worse than all patients" in said
    assert "sex = m" not in said


def test_predicted_ranges_that_observed_shares_leave_are_named() -> None:
    shares = (around(0.05), around(0.3), around(0.41), None, around(0.9))
    edges = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.9), (0.95, 1.0))
    bins = tuple(
        BinReading(low, high, 100.0, share)
        for (low, high), share in zip(edges, shares, strict=True)
    )
    overall = replace(group("", around(0.8)), calibration=bins)
    women = replace(group(WOMEN, around(0.8)), calibration=bins)
    small = group(MEN, None, suppressed=True)
    table = next(
        table
        for table in bias_tables(study_of("binary"), [overall, women, small])
        if table.about == "calibration"
    )
    said = [row.judgement for row in table.rows if row.group == WOMEN]
    assert said == [
        "not shown to be off",
        "more have the outcome than predicted",
        "not shown to be off",
        TOO_FEW,
        "fewer have the outcome than predicted",
    ]
    assert [row.judgement for row in table.rows if row.group == MEN] == [TOO_FEW]
    assert all(row.gap is None or row.gap.value == 0 for row in table.rows)


def test_survival_is_compared_with_what_was_predicted() -> None:
    times = (
        TimeReading(100.0, 400.0, 20.0, around(0.9), 0.95),
        TimeReading(200.0, 300.0, 20.0, around(0.8), 0.75),
        TimeReading(300.0, 200.0, 20.0, around(0.7), 0.69),
        TimeReading(400.0, 5.0, 1.0, None, 0.6),
    )
    overall = replace(group("", around(0.7), "c_index"), times=times)
    table = overall_calibration(study_of("survival"), [overall])
    assert table is not None
    assert [row.judgement for row in table.rows] == [
        "fewer are without the event than predicted",
        "more are without the event than predicted",
        "not shown to be off",
        TOO_FEW,
    ]
    assert table.rows[0].value is not None
    assert table.rows[0].value.value == pytest.approx(-5.0)


@pytest.mark.parametrize(("kind", "patients"), [("binary", 2000), ("continuous", 800)])
@pytest.mark.parametrize("deviation", [0.5, 13.0])
def test_intervals_of_gaps_hold_the_true_gap(kind: Kind, patients: int, deviation: float) -> None:
    """The gap is nil; means hold it in 95 of 100 cases where noise rules, in more where chance."""
    seen, held, repetitions = Counter[str](), Counter[str](), 120
    for seed in range(repetitions):
        for table in bias_tables(study_of(kind), made_up_groups(kind, patients, seed, deviation)):
            if table.about == "performance" and table.scale.name not in {"AUC", "RMSE"}:
                _count(table, seen, held)
    assert min(seen.values()) > repetitions / 2
    assert min(held[name] / seen[name] for name in seen) >= 0.9


def _count(table: BiasTable, seen: Counter[str], held: Counter[str]) -> None:
    for row in table.rows:
        if row.gap is not None:
            seen[f"{table.title} {row.group}"] += 1
            held[f"{table.title} {row.group}"] += row.gap.low <= 0.0 <= row.gap.high
