"""Studies with every kind of feature, and patients of theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study import Study
from tests.kits.small import small_study, study_data

AGE: dict[str, Any] = {
    "name": "age",
    "kind": "numeric",
    "unit": "years",
    "range": [20, 80],
    "source": "test",
}


WEIGHT = AGE | {"name": "weight", "unit": "kg", "range": [40, 140]}


SEX: dict[str, Any] = {
    "name": "sex",
    "kind": "categorical",
    "levels": ["female", "male"],
    "source": "test",
}


GRADE = SEX | {"name": "grade", "kind": "ordinal", "levels": ["I", "II", "III"]}


SNP: dict[str, Any] = {
    "name": "snp",
    "kind": "snp",
    "reference": "G",
    "effect": "A",
    "source": "test",
}


CYP: dict[str, Any] = {
    "name": "cyp",
    "kind": "diplotype",
    "alleles": ["*2", "*3"],
    "source": "test",
}


GENES: dict[str, Any] = {
    "name": "genes",
    "kind": "panel",
    "columns": ["g1", "g2", "g3"],
    "unit": "log2",
    "range": [-4, 10],
    "source": "test",
}


EVERY = [AGE, WEIGHT, SEX, GRADE, SNP, CYP, GENES]


def study(
    *features: dict[str, Any], kind: str = "binary", indicator: bool = False, **changes: Any
) -> Study:
    cohort = study_data()["cohort"]
    cohort |= {"features": list(features), "site_indicator": indicator}
    return small_study(kind, cohort=cohort, subgroups=[], **changes)


def patients(count: int = 60, seed: int = 3) -> pd.DataFrame:
    """Return patients inside all ranges, of whom every fifth value is missing."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.uniform(35, 70, count),
            "weight": rng.uniform(60, 110, count),
            "sex": rng.choice(["female", "male"], count),
            "grade": rng.choice(["I", "II", "III"], count),
            "snp": rng.choice(["G/G", "A/G", "A/A"], count),
            "cyp": rng.choice(["*1/*1", "*1/*2", "*2/*3", "*3/*3"], count),
            **{gene: rng.uniform(-3, 9, count) for gene in ("g1", "g2", "g3")},
        }
    ).astype(object)
    return table.mask(rng.random(table.shape) < 0.2)


def some_weights(of: Study, seed: int = 5) -> Vector:
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 0.5, initial_weights(of, Encoding(of), 0).size)
