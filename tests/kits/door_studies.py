"""Three faultless made-up tables and their studies, for tests of what is told of a table.

Nothing here is imported from `polyclinic_common.data`: the right answers are written by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from polyclinic_common.study import Study, parse_study
from tests.kits.small import study_data


def number(name: str, unit: str, low: float, high: float) -> dict[str, Any]:
    return {"name": name, "kind": "numeric", "unit": unit, "range": [low, high], "source": "test"}


def levels(name: str, *words: str, kind: str = "categorical") -> dict[str, Any]:
    return {"name": name, "kind": kind, "levels": list(words), "source": "test"}


DOSE = (
    number("age", "years", 18, 90),
    number("height", "cm", 140, 210),
    number("weight", "kg", 40, 200),
    number("crp", "mg/L", 0, 200),
    levels("sex", "female", "male"),
    levels("smoking", "never", "former", "current"),
    levels("amiodarone", "0", "1", kind="ordinal"),
    {"name": "vkorc1", "kind": "snp", "reference": "C", "effect": "T", "source": "rs9923231"},
    {"name": "cyp2c9", "kind": "diplotype", "alleles": ["*2", "*3"], "source": "PharmVar"},
)


def _study(kind: str, features: list[dict[str, Any]], **changes: Any) -> Study:
    cohort = {"patient_id": "patient", "site": "hospital", "features": features}
    return parse_study(study_data(kind, 4, cohort=cohort, subgroups=[], **changes), "test")


def dose_study() -> Study:
    outcome = {
        "kind": "continuous",
        "column": "dose",
        "unit": "mg/week",
        "range": [7, 105],
        "source": "test",
        "transform": "sqrt",
    }
    return _study("continuous", list(DOSE), outcome=outcome)


def survival_study(**changes: Any) -> Study:
    outcome = {
        "kind": "survival",
        "time": "days",
        "event": "event",
        "occurred": "1",
        "censored": "0",
        "unit": "days",
        "grid": [180, 365, 730, 1095, 1460],
        "source": "test",
    } | changes
    return _study("survival", [number("age", "years", 18, 90)], outcome=outcome)


def binary_study() -> Study:
    features = [number("age", "years", 18, 90), levels("prior", "yes", "no")]
    return _study("binary", features)


def dose_table(rows: int = 200) -> pd.DataFrame:
    """Return a faultless table of text, as a CSV file gives it."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "patient": [f"p{row}" for row in range(rows)],
            "age": rng.integers(20, 90, rows),
            "height": rng.integers(150, 195, rows),
            "weight": rng.integers(45, 120, rows),
            "crp": np.round(rng.uniform(5.5, 90, rows), 1) + 0.01,
            "sex": rng.choice(["female", "male"], rows),
            "smoking": rng.choice(["never", "former", "current"], rows),
            "amiodarone": rng.choice(["0", "1"], rows),
            "vkorc1": rng.choice(["C/C", "C/T", "T/T"], rows),
            "cyp2c9": rng.choice(["*1/*1", "*1/*2", "*2/*3"], rows),
            "dose": np.round(rng.uniform(10, 90, rows)) + 0.5,
        }
    )
    return frame.astype(str)


def survival_table(rows: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(
        {
            "patient": [f"p{row}" for row in range(rows)],
            "age": rng.integers(20, 90, rows),
            "days": rng.integers(30, 1700, rows),
            "event": rng.choice(["0", "1"], rows),
        }
    )
    return frame.astype(str)


def binary_table(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "patient": [f"p{row}" for row in range(rows)],
            "age": rng.integers(20, 90, rows),
            "prior": rng.choice(["yes", "no"], rows),
            "response": rng.choice(["yes", "no"], rows),
        }
    )
    return frame.astype(str)
