"""Published warfarin dosing formulas of the International Warfarin Pharmacogenetics Consortium.

New England Journal of Medicine 360 (2009) 753, appendix. Both give the square root of the stable
weekly dose in mg from age in decades, height in cm, weight in kg and what is below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polyclinic_common.data.values import as_number

Floats = NDArray[np.float64]

FIXED_DOSE = 35.0
YEARS_IN_DECADE = 10.0


@dataclass(frozen=True)
class Formula:
    """Coefficients of one formula; `unknown_*` also holds for genotypes without a term."""

    constant: float
    decade: float
    height: float
    weight: float
    race: Mapping[str, float]
    unknown_race: float
    inducer: float
    amiodarone: float
    vkorc1: Mapping[str, float]
    unknown_vkorc1: float
    cyp2c9: Mapping[str, float]
    unknown_cyp2c9: float

    def root_dose(self, patients: pd.DataFrame) -> Floats:
        """Return the square root of the weekly dose, shape (n,); NaN without age, height, weight.

        Comedication that is not recorded counts as not taken, as in the publication.
        """
        decade = np.floor(as_number(patients["age"]) / YEARS_IN_DECADE)
        return np.asarray(
            self.constant
            + self.decade * decade
            + self.height * as_number(patients["height"])
            + self.weight * as_number(patients["weight"])
            + _coded(patients["race"], self.race, self.unknown_race)
            + self.inducer * _taken(patients["enzyme_inducer"])
            + self.amiodarone * _taken(patients["amiodarone"])
            + _coded(patients["vkorc1"], self.vkorc1, self.unknown_vkorc1)
            + _coded(patients["cyp2c9"], self.cyp2c9, self.unknown_cyp2c9)
        )


PHARMACOGENETIC = Formula(
    constant=5.6044,
    decade=-0.2614,
    height=0.0087,
    weight=0.0128,
    race={"White": 0.0, "Asian": -0.1092, "Black or African American": -0.2760},
    unknown_race=-0.1032,
    inducer=1.1816,
    amiodarone=-0.5503,
    vkorc1={"G/G": 0.0, "A/G": -0.8677, "A/A": -1.6974},
    unknown_vkorc1=-0.4854,
    cyp2c9={
        "*1/*1": 0.0,
        "*1/*2": -0.5211,
        "*1/*3": -0.9357,
        "*2/*2": -1.0616,
        "*2/*3": -1.9206,
        "*3/*3": -2.3312,
    },
    unknown_cyp2c9=-0.2188,
)

CLINICAL = Formula(
    constant=4.0376,
    decade=-0.2546,
    height=0.0118,
    weight=0.0134,
    race={"White": 0.0, "Asian": -0.6752, "Black or African American": 0.4060},
    unknown_race=0.0443,
    inducer=1.2799,
    amiodarone=-0.5695,
    vkorc1={},
    unknown_vkorc1=0.0,
    cyp2c9={},
    unknown_cyp2c9=0.0,
)

# Weekly dose in mg by VKORC1 -1639 and CYP2C9: seven times the middle of the daily range in table 5
# of the US prescribing information of Coumadin (2010), as reprinted in Cleve Clin J Med 78 (2011)
# 243, table 2.
USUAL, REDUCED, SMALL = 42.0, 24.5, 8.75
LABEL: Mapping[str, Mapping[str, float]] = {
    "G/G": {
        "*1/*1": USUAL,
        "*1/*2": USUAL,
        "*1/*3": REDUCED,
        "*2/*2": REDUCED,
        "*2/*3": REDUCED,
        "*3/*3": SMALL,
    },
    "A/G": {
        "*1/*1": USUAL,
        "*1/*2": REDUCED,
        "*1/*3": REDUCED,
        "*2/*2": REDUCED,
        "*2/*3": SMALL,
        "*3/*3": SMALL,
    },
    "A/A": {
        "*1/*1": REDUCED,
        "*1/*2": REDUCED,
        "*1/*3": SMALL,
        "*2/*2": SMALL,
        "*2/*3": SMALL,
        "*3/*3": SMALL,
    },
}


def with_published_doses(patients: pd.DataFrame) -> pd.DataFrame:
    """Return `patients` with the weekly dose in mg that each published rule gives."""
    doses: dict[str, Floats | float] = {
        "published pharmacogenetic formula": PHARMACOGENETIC.root_dose(patients) ** 2,
        "published clinical formula": CLINICAL.root_dose(patients) ** 2,
        "published fixed 35 mg": FIXED_DOSE,
    }
    return patients.assign(**doses)


def _coded(words: pd.Series, terms: Mapping[str, float], unknown: float) -> Floats:
    return np.array([terms.get(word, unknown) for word in words], dtype=np.float64)


def _taken(answers: pd.Series) -> Floats:
    return np.array([answer == "1" for answer in answers], dtype=np.float64)
