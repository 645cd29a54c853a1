"""Numbers are printed with a true minus and without minus zero; what headlines comes first."""

from __future__ import annotations

import pytest

from polyclinic_simulations.report.measures import decimals, measure_of, measures_of
from tests.kits.small import small_study


@pytest.mark.parametrize(
    ("number", "digits", "shown"),
    [(-0.04, 1, "0.0"), (-0.0, 3, "0.000"), (-0.4, 0, "0"), (-0.06, 1, "−0.1"), (2.35, 1, "2.4")],
)
def test_there_is_no_minus_zero(number: float, digits: int, shown: str) -> None:
    assert decimals(number, digits) == shown


def test_differences_and_intervals_have_no_minus_zero() -> None:
    measure = measure_of(small_study(), "auc")
    assert measure.text([-0.0002, -0.0003]) == "0.000 ± 0.000"
    assert measure.interval(-0.0004, 0.01) == "0.000 to 0.010"
    assert measure.size(-0.0136) == "0.014"


def test_the_metric_that_headlines_comes_first_and_none_is_lost() -> None:
    study = small_study()
    assert [each.key for each in measures_of(study, "auc")] == ["auc", "brier", "accuracy"]
    assert [each.key for each in measures_of(study, "accuracy")] == ["accuracy", "auc", "brier"]
    named = small_study(evaluation={"metrics": ["accuracy"]})
    assert [each.key for each in measures_of(named, "auc")] == ["auc", "brier", "accuracy"]
    found = [each.key for each in measures_of(small_study("survival"), "c_index")]
    assert found == ["c_index", "td_auc", "ibs"]
