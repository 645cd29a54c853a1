"""Guessing genotypes from a dose: Bayes' rule over the few genotypes that there are.

Fredrikson et al., Privacy in Pharmacogenetics (USENIX Security 2014), algorithm 1: every candidate
is weighed by how common it is and by how well a dosing rule, given that candidate, explains the
patient's known dose.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polyclinic_common.data.genotype import diplotype_copies, snp_copies
from polyclinic_common.study.features import Diplotype, Snp
from polyclinic_simulations.studies.warfarin.loader import ANCESTRIES

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

VKORC1 = ("G/G", "A/G", "A/A")
CYP2C9 = ("*1/*1", "*1/*2", "*1/*3", "*2/*2", "*2/*3", "*3/*3")
GENES: Mapping[str, tuple[str, ...]] = {"vkorc1": VKORC1, "cyp2c9": CYP2C9}
CANDIDATES = tuple(product(VKORC1, CYP2C9))
# Spread of the square root of the weekly dose (mg) around the published formula: with 1.0 it errs
# by the published 8.5 mg a week (see the synthetic study `warfarin`).
ROOT_DOSE_SPREAD = 1.0
MISSING = -1


def ancestry_prior(race: pd.Series) -> Floats:
    """Return how common each candidate is among people of the patient's race, shape (n, 18).

    Published allele frequencies, Hardy-Weinberg equilibrium, genes independent; a race that is
    missing or unknown has frequencies of its own.
    """
    rows = {each.race: each for each in ANCESTRIES}
    groups = {
        name: np.outer(_snp(each.vkorc1_a), _diplotypes(each.cyp2c9_2, each.cyp2c9_3))
        for name, each in rows.items()
    }
    found = [groups[word] if word in groups else groups[None] for word in race]
    return np.array(found, dtype=np.float64).reshape(len(race), len(CANDIDATES))


def _snp(a: float) -> Floats:
    """Return the shares of `VKORC1` genotypes where allele A has frequency `a`."""
    return np.array([(1 - a) ** 2, 2 * a * (1 - a), a**2])


def _diplotypes(two: float, three: float) -> Floats:
    """Return the shares of `CYP2C9` genotypes where *2 and *3 have these frequencies."""
    one = 1.0 - two - three
    return np.array([one**2, 2 * one * two, 2 * one * three, two**2, 2 * two * three, three**2])


def posterior(prior: Floats, doses: Floats, dose: Floats) -> Floats:
    """Return the probability of every candidate, given the patient's dose.

    Parameters
    ----------
    prior : array of shape (n, k)
        Probability of every candidate before the dose is known.
    doses : array of shape (n, k)
        Weekly dose in mg that a rule gives the patient with every candidate; NaN says nothing.
    dose : array of shape (n,)
        The patient's true weekly dose in mg; one that cannot be says nothing.
    """
    known = (dose >= 0) & np.isfinite(dose) & np.isfinite(doses).all(axis=1)
    root = np.sqrt(np.where(known, dose, 0.0))[:, None]
    distance = (root - np.sqrt(np.where(known[:, None], doses, 0.0))) / ROOT_DOSE_SPREAD
    with np.errstate(divide="ignore"):  # an allele that a group does not have: log 0 is right
        weight = np.log(prior) - np.where(known[:, None], 0.5 * distance**2, 0.0)
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float64)


def of_gene(gene: str, joint: Floats) -> Floats:
    """Return the probability of every genotype of one gene, whatever the other gene is."""
    grid = joint.reshape(len(joint), len(VKORC1), len(CYP2C9))
    return np.asarray(grid.sum(axis=2 if gene == "vkorc1" else 1), dtype=np.float64)


def true_codes(feature: Snp | Diplotype, names: tuple[str, ...], values: pd.Series) -> Codes:
    """Return which of `names` every patient has, shape (n,).

    `MISSING` where nothing is recorded or it is not understood, ``len(names)`` where it is a
    genotype that no attacker here thinks of.
    """
    if isinstance(feature, Snp):
        copies, known = snp_copies(feature, values), snp_copies(feature, pd.Series(names))
    else:
        copies = diplotype_copies(feature, values)
        known = diplotype_copies(feature, pd.Series(names))
    same = (copies[:, None, :] == known[None, :, :]).all(axis=2)
    codes = np.where(same.any(axis=1), same.argmax(axis=1), len(names))
    return np.where(np.isnan(copies).any(axis=1), MISSING, codes).astype(np.int64)
