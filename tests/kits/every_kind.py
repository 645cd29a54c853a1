"""Studies with every kind of column and outcome, drawn at random from a seed, and patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.study import Study
from polyclinic_common.study.features import (
    Categorical,
    Diplotype,
    Feature,
    Hla,
    Numeric,
    Ordinal,
    Panel,
    Snp,
    columns_of,
)
from tests.kits.other_studies import EVERY, study
from tests.kits.small import OUTCOMES

HLA: dict[str, Any] = {
    "name": "hla",
    "kind": "hla",
    "gene": "HLA-B",
    "alleles": ["*57:01", "*58:01"],
    "source": "test",
}
PROJECTED: dict[str, Any] = {
    "name": "proteins",
    "kind": "panel",
    "columns": ["p1", "p2", "p3", "p4"],
    "unit": "log2",
    "range": [0, 1],
    "source": "test",
    "projection": {"width": 2, "seed": 1},
}
ARMS: dict[str, Any] = {
    "kind": "arms",
    "column": "arm",
    "arms": ["A", "B"],
    "labels": {"A": "aspirin"},
    "assignment": "randomised",
    "source": "test",
}
LINEAR: dict[str, Any] = {"kind": "linear"}
MLP: dict[str, Any] = {"kind": "mlp", "hidden": [5, 4]}
CONTINUOUS: list[dict[str, Any]] = [
    {"transform": "none", "range": [-20, 120]},
    {"transform": "sqrt", "range": [0, 100]},
    {"transform": "log", "range": [1, 100]},
]
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("continuous", each) for each in CONTINUOUS),
    ("binary", {}),
    ("survival", {}),
]


def every_study(kind: str, model: dict[str, Any] = LINEAR, **outcome: Any) -> Study:
    """Return a study with every kind of column, whose outcome is changed by `outcome`."""
    changes = {"model": model, "treatment": ARMS, "outcome": OUTCOMES[kind] | outcome}
    return study(*EVERY, HLA, PROJECTED, kind=kind, indicator=True, **changes)


def random_study(seed: int, kind: str, model: dict[str, Any] = LINEAR, **outcome: Any) -> Study:
    """Return a study with columns, vocabularies, ranges and treatment that a seed draws."""
    rng = np.random.default_rng(seed)
    features = [_drawn(rng, each["kind"], k) for k, each in enumerate([*EVERY, HLA, PROJECTED])]
    kept = [each for each in features if rng.random() < 0.8] or features[:1]
    low, width = rng.uniform(-10, 10), rng.uniform(1, 200)
    dose = {"kind": "dose", "column": "given / day", "unit": "mg", "range": [low, low + width]}
    treatments: list[dict[str, Any] | None] = [
        None,
        ARMS,
        dose | {"assignment": "observational", "source": "test"},
    ]
    changes = {"model": model, "outcome": OUTCOMES[kind] | outcome}
    treatment = treatments[rng.integers(3)]
    if treatment is not None:
        changes["treatment"] = treatment
    return study(*kept, kind=kind, indicator=bool(rng.random() < 0.5), **changes)


def _drawn(rng: np.random.Generator, kind: str, number: int) -> dict[str, Any]:
    """Return a feature of some kind; the first is called as the prediction is."""
    name = f"feature {number} (x/{number})" if number else "prediction"
    feature: dict[str, Any] = {"name": name, "kind": kind, "source": "test"}
    low, width = rng.uniform(-100, 100), rng.uniform(0.5, 300)
    if kind in {"numeric", "panel"}:
        feature |= {"unit": "u", "range": [low, low + width]}
    if kind == "panel":
        count = int(rng.integers(1, 9))
        feature["columns"] = [f"{name} {k}" for k in range(count)]
        if rng.random() < 0.5:
            feature["projection"] = {"width": int(rng.integers(1, 5)), "seed": number}
    if kind in {"ordinal", "categorical"}:
        choices = [["female", "male"], ["0", "1", "2"], ["I", "II", "III", "é ü"], ["TRUE", "no"]]
        feature["levels"] = choices[rng.integers(len(choices))]
    if kind == "snp":
        reference, effect = [("G", "A"), ("A", "T"), ("GT", "G")][rng.integers(3)]
        feature |= {"reference": reference, "effect": effect}
    if kind == "diplotype":
        feature["alleles"] = [f"*{k}" for k in range(2, 2 + rng.integers(1, 6))]
    if kind == "hla":
        choices = [["*57:01"], ["*57", "*58"], ["*57:01:01", "*15:02:01"]]
        feature |= {"gene": "HLA-B", "alleles": choices[rng.integers(3)]}
    return feature


def random_patients(of: Study, count: int, seed: int) -> pd.DataFrame:
    """Return patients of a study: inside and outside ranges, missing, and now and then unknown."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for feature in Encoding(of).features:
        if feature.name == of.cohort.site:
            continue
        for column in columns_of(feature):
            values = _values(feature, count, rng)
            for _ in range(2):  # None, NaN and empty are all missing
                values[rng.random(count) < 0.07] = None
            columns[column] = values
    return pd.DataFrame(columns)


def _values(feature: Feature, count: int, rng: np.random.Generator) -> Any:
    if isinstance(feature, Numeric | Panel):
        low, high = feature.range
        values = rng.uniform(low - (high - low), high + (high - low) / 2.0, count).astype(object)
        values[rng.random(count) < 0.005] = np.inf
        return values
    words = np.array(_words(feature), dtype=object)
    return words[rng.integers(len(words), size=count)]


def _words(feature: Feature) -> list[str]:
    """Return words that the study understands, many times, and one that it does not."""
    if isinstance(feature, Ordinal | Categorical):
        return [*feature.levels * 20, "unheard of"]
    if isinstance(feature, Snp):
        pair = (feature.reference, feature.effect)
        return [f"{a}{mark}{b}" for a in pair for b in pair for mark in "/|" * 5] + ["C/C"]
    if isinstance(feature, Diplotype):
        known = (feature.reference, *feature.alleles)
        return [f"{a}{mark}{b}" for a in known for b in known for mark in "/|" * 5] + ["*99/*1"]
    assert isinstance(feature, Hla)
    stars = ["*57:01:01", "B*57:01:01:02", "HLA-B*15:02:01", "07:02:01", "*58:01:01", "*07:02:01"]
    pairs = [f"{a}{mark}{b}" for a in stars for b in stars for mark in "/|, ;"]
    return [
        *pairs,
        "*57/*58",
        "57/*58:01:01",
        "*58/*57:01",
        "hla-b*57:01:01/b *58:01:02",
        "C*57:01:01/*58:01:01",
    ]
