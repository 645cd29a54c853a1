"""What counts as a change of a column: known answers, and no more false ones than promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ks_2samp

from polyclinic_client.watch.discoveries import distance, levels, shares, yekutieli

# Benjamini and Hochberg, Controlling the false discovery rate (1995), section 4.1.
THROMBOLYSIS = np.array(
    [
        *(1e-4, 4e-4, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
        *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
    ]
)


def test_the_published_example_gives_three_discoveries_whatever_their_order() -> None:
    order = np.random.default_rng(1).permutation(15)
    found = yekutieli(THROMBOLYSIS[order], 0.05)
    assert set(order[found]) == {0, 1, 2}


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.2])
def test_discoveries_are_those_of_scipy(rate: float) -> None:
    rng = np.random.default_rng(2)
    for m in (1, 7, 60):
        p = rng.uniform(size=m) ** 4
        assert (yekutieli(p, rate) == (false_discovery_control(p, method="by") <= rate)).all()


def test_no_tests_give_no_discoveries() -> None:
    assert yekutieli(np.zeros(0), 0.1).shape == (0,)


@pytest.mark.parametrize("harmonic", [False, True])
def test_where_nothing_changed_any_discovery_is_as_rare_as_the_rate_whatever_depends(
    harmonic: bool,
) -> None:
    """The worst dependence of the theorem's proof: k p-values are k steps, with probability ~ 1/k.

    With the steps of Benjamini and Hochberg's own rule that rule would find something in 59 % of
    tables. Seeded; one seed in a million would give more than the bound.
    """
    rng, rate, runs, m = np.random.default_rng(3), 0.2, 4000, 10
    total = np.sum(1.0 / np.arange(1, m + 1)) if harmonic else 1.0
    step = rate / (m * total)
    hits = 0
    for _ in range(runs):
        p, rank = np.ones(m), rng.integers(1, m + 1)
        if rng.random() < step * m * m / rank:
            p[rng.permutation(m)[:rank]] = rank * step
        hits += bool(yekutieli(p, rate).any())
    assert hits / runs <= rate + 4.9 * np.sqrt(rate * (1 - rate) / runs)
    assert (hits > 0) == harmonic


def test_the_distance_is_that_of_the_two_step_functions() -> None:
    before, now = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.5, 5.0])
    size, p = distance(before, now)
    assert size == pytest.approx(0.75)
    assert p == pytest.approx(ks_2samp(before, now, method="exact").pvalue)
    assert distance(before, np.zeros(0)) == (0.0, 1.0)


def test_shares_are_fishers_exact_test() -> None:
    """The lady tasting tea: 3 of 4 right has two-sided p = 34/70."""
    before, now = np.array([True, True, True, False]), np.array([True, False, False, False])
    assert shares(before, now) == pytest.approx(34 / 70)
    assert shares(np.zeros(5, dtype=bool), np.zeros(9, dtype=bool)) == 1.0


def test_the_word_that_changed_most_is_named_and_all_words_are_paid_for() -> None:
    before = np.array(["I"] * 40 + ["II"] * 40 + ["III"] * 20, dtype=object)
    now = np.array(["I"] * 5 + ["II"] * 25 + ["III"] * 20, dtype=object)
    word, change, p = levels(before, now)
    assert word == "I"
    assert change == pytest.approx(0.1 - 0.4)
    assert p == pytest.approx(3 * shares(before == "I", now == "I"))
    assert levels(before[:3], before[:3]) == ("", 0.0, 1.0)
