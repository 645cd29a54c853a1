"""The attacker follows Bayes' rule, and nothing a table holds breaks him."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic_common.study import load_study
from polyclinic_common.study.features import Diplotype, Snp
from polyclinic_simulations.audit.genotypes import (
    CANDIDATES,
    CYP2C9,
    GENES,
    MISSING,
    VKORC1,
    ancestry_prior,
    of_gene,
    posterior,
    true_codes,
)
from polyclinic_simulations.studies.registry import HERE

RACES = ["White", "Asian", "Black or African American", None]


def features() -> tuple[Snp, Diplotype]:
    study = load_study(HERE / "iwpc" / "study.toml")
    by_name = {feature.name: feature for feature in study.cohort.features}
    vkorc1, cyp2c9 = by_name["vkorc1"], by_name["cyp2c9"]
    assert isinstance(vkorc1, Snp)
    assert isinstance(cyp2c9, Diplotype)
    return vkorc1, cyp2c9


def test_the_guess_is_what_bayes_rule_gives_by_hand() -> None:
    """Two candidates, 36 and 16 mg a week, a patient on 25: one root mg from either.

    The likelihoods are equal, so the prior stays. On 36 they are 1 and exp(-2).
    """
    prior, doses = np.array([[0.3, 0.7]]), np.array([[36.0, 16.0]])
    even = posterior(prior, doses, np.array([25.0]))
    np.testing.assert_allclose(even, [[0.3, 0.7]])
    found = posterior(prior, doses, np.array([36.0]))
    weight = 0.7 * np.exp(-2.0)
    np.testing.assert_allclose(found, [[0.3 / (0.3 + weight), weight / (0.3 + weight)]])


def test_a_model_that_is_always_right_is_inverted_without_fail() -> None:
    """Every candidate has a dose of its own, 4 root mg apart: each patient's dose betrays him."""
    doses = np.tile((4.0 * np.arange(1, len(CANDIDATES) + 1)) ** 2, (len(CANDIDATES), 1))
    uniform = np.full(doses.shape, 1.0 / len(CANDIDATES))
    joint = posterior(uniform, doses, np.diag(doses))
    for position, names in enumerate(GENES.values()):
        gene = tuple(GENES)[position]
        guessed = [names[code] for code in of_gene(gene, joint).argmax(axis=1)]
        assert guessed == [candidate[position] for candidate in CANDIDATES]


def test_each_gene_is_summed_over_the_other() -> None:
    joint = np.arange(18.0)[None, :]
    np.testing.assert_array_equal(of_gene("vkorc1", joint), [[15.0, 51.0, 87.0]])
    np.testing.assert_array_equal(of_gene("cyp2c9", joint), [[18.0, 21.0, 24.0, 27.0, 30.0, 33.0]])


def test_ancestry_alone_guesses_the_majority_of_the_race() -> None:
    """1000 Genomes: the A allele of VKORC1 has 39, 89 and 12 % in the races, 40 % elsewhere."""
    prior = ancestry_prior(pd.Series(RACES))
    np.testing.assert_allclose(prior.sum(axis=1), 1.0)
    nothing = posterior(prior, np.full(prior.shape, np.nan), np.full(len(RACES), 35.0))
    np.testing.assert_allclose(nothing, prior)
    guesses = [VKORC1[code] for code in of_gene("vkorc1", nothing).argmax(axis=1)]
    assert guesses == ["A/G", "A/A", "G/G", "A/G"]
    assert set(of_gene("cyp2c9", nothing).argmax(axis=1)) == {CYP2C9.index("*1/*1")}
    assert of_gene("vkorc1", nothing)[0] == pytest.approx([0.61**2, 2 * 0.61 * 0.39, 0.39**2])


def test_true_genotypes_are_read_however_they_are_written() -> None:
    vkorc1, cyp2c9 = features()
    words = pd.Series(["G/G", "G/A", "ag", "AA", None, "T/T", "", "x"])
    assert true_codes(vkorc1, VKORC1, words).tolist() == [0, 1, 1, 2, *[MISSING] * 4]
    words = pd.Series(["*1/*1", "2/1", "*3/*2", "*1/*5", None, "*1", "*9/*99"])
    found = true_codes(cyp2c9, CYP2C9, words).tolist()
    assert found == [0, 1, 4, len(CYP2C9), *[MISSING] * 3]


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(
    dose=NUMBERS, doses=st.lists(st.floats(0, 1e300) | st.just(np.nan), min_size=18, max_size=18)
)
def test_whatever_a_row_holds_probabilities_come_out(dose: float, doses: list[float]) -> None:
    for race in [*RACES, "Martian", float("nan")]:
        prior = ancestry_prior(pd.Series([race], dtype=object))
        found = posterior(prior, np.array([doses]), np.array([dose]))
        assert found.sum() == pytest.approx(1.0)
        assert (found >= 0).all()
