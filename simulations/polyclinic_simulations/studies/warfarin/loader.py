"""SYNTHETIC patients: a twin of the 21-site warfarin consortium. Nobody in this table is real.

Genotypes are drawn from public allele frequencies by ancestry, doses from the consortium's
published formula plus noise. The sites are unequal in size and in ancestry, and at some of them
whole columns are missing, as in the real consortium. A fixed seed makes every copy the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polyclinic_simulations.studies.dosing import PHARMACOGENETIC, with_published_doses

SEED = 20090219  # the day on which the formula was published
PATIENTS = 5000
SITES = 21
UNEVENNESS = 0.7  # site k has a share proportional to 1 / k^0.7
# Spread of the square root of the dose around the formula, so that the formula errs by about
# 8.5 mg a week, as published for the validation cohort.
NOISE = 1.0
LOWEST_ROOT_DOSE = 1.0


class Ancestry(NamedTuple):
    """A group of patients: name, allele frequencies, mean height and weight.

    Allele frequencies: 1000 Genomes Project (Nature 526 (2015) 68), European, East Asian and
    admixed American populations, rounded; for Black patients four fifths African and one fifth
    European, as in African Americans. Body size: rounded means of adults.
    """

    race: str | None
    vkorc1_a: float
    cyp2c9_2: float
    cyp2c9_3: float
    height: float
    weight: float


ANCESTRIES = (
    Ancestry("White", 0.39, 0.12, 0.07, height=170.0, weight=82.0),
    Ancestry("Asian", 0.89, 0.00, 0.03, height=162.0, weight=63.0),
    Ancestry("Black or African American", 0.12, 0.03, 0.02, height=171.0, weight=88.0),
    Ancestry(None, 0.40, 0.10, 0.04, height=167.0, weight=76.0),
)
EUROPE = (0.97, 0.01, 0.01, 0.01)
EAST_ASIA = (0.00, 1.00, 0.00, 0.00)
NORTH_AMERICA = (0.75, 0.03, 0.18, 0.04)
MIXED = (0.55, 0.10, 0.15, 0.20)
# Shares of the ancestries at sites 1, 2, ... in the order above.
MIXES = (
    *(NORTH_AMERICA, EAST_ASIA, EUROPE, MIXED, NORTH_AMERICA, EUROPE, EAST_ASIA),
    *(EUROPE, EAST_ASIA, MIXED, EUROPE, NORTH_AMERICA, NORTH_AMERICA, EUROPE),
    *(MIXED, NORTH_AMERICA, EAST_ASIA, EUROPE, NORTH_AMERICA, MIXED, EUROPE),
)
# Sites, by number, at which a column was never recorded.
NOT_RECORDED = {
    "amiodarone": (3, 6, 18),
    "height": (9, 10, 13, 18),
    "vkorc1": (9,),
    "enzyme_inducer": (2, 4, 7, 12, 16, 19, 20),
}
DECADES = np.arange(20, 100, 10)
DECADE_SHARES = (0.02, 0.03, 0.08, 0.18, 0.24, 0.30, 0.14, 0.01)
AMIODARONE_SHARE = 0.07
INDUCER_SHARE = 0.01
HEIGHT_SPREAD = 9.0
WEIGHT_SPREAD = 0.22  # relative


def load(data: Path | None) -> pd.DataFrame:
    """Return the synthetic patients, with the published formulas' doses; `data` is not needed."""
    del data
    generator = np.random.default_rng(SEED)
    site = np.repeat(np.arange(SITES), site_sizes())
    patients = _characteristics(generator, site)
    noise = generator.normal(0.0, NOISE, PATIENTS)
    root = np.maximum(PHARMACOGENETIC.root_dose(patients) + noise, LOWEST_ROOT_DOSE)
    patients = patients.assign(
        patient=[f"synthetic {number:04d}" for number in range(1, PATIENTS + 1)],
        site=[f"synthetic site {number}" for number in site + 1],
        dose=np.round(2.0 * root**2) / 2.0,  # tablets are halved
    )
    return with_published_doses(_with_gaps(patients, site + 1))


def site_sizes() -> NDArray[np.int64]:
    """Return the patients of each site, the largest first."""
    shares = np.arange(1, SITES + 1) ** -UNEVENNESS
    ends = np.round(PATIENTS * np.cumsum(shares) / shares.sum())
    return np.asarray(np.diff(ends, prepend=0.0), dtype=np.int64)


def _characteristics(generator: np.random.Generator, site: NDArray[np.int64]) -> pd.DataFrame:
    """Draw everything that is known before treatment; `site` counts from 0."""
    ends = np.cumsum(MIXES, axis=1)[site]
    group = (generator.random((PATIENTS, 1)) > ends).sum(axis=1)
    traits = pd.DataFrame(ANCESTRIES).iloc[group].reset_index(drop=True)
    spread = generator.normal(size=(PATIENTS, 2))
    return pd.DataFrame(
        {
            "age": generator.choice(DECADES, PATIENTS, p=DECADE_SHARES) + 5.0,
            "height": np.round(traits["height"] + HEIGHT_SPREAD * spread[:, 0]),
            "weight": np.round(traits["weight"] * np.exp(WEIGHT_SPREAD * spread[:, 1])),
            "race": traits["race"],
            "vkorc1": _vkorc1(generator, traits),
            "cyp2c9": _cyp2c9(generator, traits),
            "amiodarone": np.where(generator.random(PATIENTS) < AMIODARONE_SHARE, "1", "0"),
            "enzyme_inducer": np.where(generator.random(PATIENTS) < INDUCER_SHARE, "1", "0"),
        }
    )


def _vkorc1(generator: np.random.Generator, traits: pd.DataFrame) -> list[str]:
    """Draw two alleles of each patient (Hardy-Weinberg equilibrium)."""
    copies = generator.binomial(2, traits["vkorc1_a"].to_numpy())
    return [("G/G", "A/G", "A/A")[number] for number in copies]


def _cyp2c9(generator: np.random.Generator, traits: pd.DataFrame) -> list[str]:
    """Draw two alleles of each patient (Hardy-Weinberg equilibrium)."""
    two, three = traits["cyp2c9_2"].to_numpy(), traits["cyp2c9_3"].to_numpy()
    place = generator.random((2, PATIENTS))
    alleles = np.where(place < three, "*3", np.where(place < three + two, "*2", "*1"))
    return ["/".join(sorted(pair)) for pair in alleles.T]


def _with_gaps(patients: pd.DataFrame, number: NDArray[np.int64]) -> pd.DataFrame:
    """Remove what the sites did not record."""
    gaps = {
        column: patients[column].mask(np.isin(number, sites))
        for column, sites in NOT_RECORDED.items()
    }
    return patients.assign(**gaps)
