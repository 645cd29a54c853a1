"""A small study and made-up patients for it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polyclinic_common.study import Study, parse_study

OUTCOMES: dict[str, dict[str, Any]] = {
    "binary": {
        "kind": "binary",
        "column": "response",
        "positive": "yes",
        "negative": "no",
        "source": "test",
    },
    "continuous": {
        "kind": "continuous",
        "column": "dose",
        "unit": "mg",
        "range": [0, 100],
        "source": "test",
        "transform": "sqrt",
    },
    "survival": {
        "kind": "survival",
        "time": "days",
        "event": "event",
        "occurred": "1",
        "censored": "0",
        "unit": "days",
        "grid": [100, 200, 300, 400],
        "source": "test",
    },
}


def study_data(kind: str = "binary", sites: int = 3, **changes: Any) -> dict[str, Any]:
    """Return the plain data of a small study; `changes` replace whole sections.

    Training that mode secure-sum does not offer gets mode local, unless `changes` give a mode.
    """
    training = changes.setdefault("training", {"rounds": 6})
    if not adds_up(training):
        changes["privacy"] = {"mode": "local"} | changes.get("privacy", {})
    return {
        "polyclinic": 1,
        "id": f"small-{kind}",
        "version": "1.0.0",
        "title": "A small study",
        "purpose": "Testing",
        "expires": "2099-12-31",
        "roster": {"sites": [f"site {index}" for index in range(sites)]},
        "cohort": {
            "patient_id": "patient",
            "site": "hospital",
            "features": [
                {
                    "name": "age",
                    "kind": "numeric",
                    "unit": "years",
                    "range": [20, 80],
                    "source": "test",
                },
                {
                    "name": "sex",
                    "kind": "categorical",
                    "levels": ["female", "male"],
                    "source": "test",
                },
            ],
        },
        "outcome": OUTCOMES[kind],
        "subgroups": [{"column": "sex"}, {"column": "age", "cuts": [50]}],
        **changes,
    }


def adds_up(training: Mapping[str, Any]) -> bool:
    """Say whether training needs sums of whole cohorts alone."""
    usual = {"schedule": "full", "personalisation": "none", "strategy": "descent"}
    return (usual | {key: training[key] for key in usual.keys() & training.keys()}) == usual


def small_study(kind: str = "binary", sites: int = 3, **changes: Any) -> Study:
    """Return a small study."""
    return parse_study(study_data(kind, sites, **changes), "small.toml")


def small_table(patients: int = 120, sites: int = 3, seed: int = 0) -> pd.DataFrame:
    """Return made-up patients with every kind of outcome; age and sex matter."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, patients).round(1)
    male = rng.random(patients) < 0.5
    score = (age - 50) / 15 + np.where(male, 0.7, -0.7)
    days = rng.exponential(300 * np.exp(-0.5 * score)).clip(1, 600).round()
    return pd.DataFrame(
        {
            "patient": [f"P{index:04d}" for index in range(patients)],
            "hospital": [f"site {index % sites}" for index in range(patients)],
            "age": age,
            "sex": np.where(male, "male", "female"),
            "response": np.where(rng.random(patients) < 1 / (1 + np.exp(-2 * score)), "yes", "no"),
            "dose": (40 + 12 * score + rng.normal(0, 5, patients)).clip(1, 99).round(1),
            "days": days,
            "event": np.where(days < 600, "1", "0"),
        }
    )


def write_study(folder: Path) -> tuple[Path, Path]:
    """Write a small study and its table."""
    data = study_data("continuous")
    lines = [f"{key} = {json.dumps(data[key])}" for key in ("polyclinic", "id", "version")]
    lines += [f"title = {json.dumps(data['title'])}", f"purpose = {json.dumps(data['purpose'])}"]
    lines += ["expires = 2099-12-31", "[roster]", f"sites = {json.dumps(data['roster']['sites'])}"]
    lines += ["[cohort]", 'patient_id = "patient"', 'site = "hospital"']
    for feature in data["cohort"]["features"]:
        lines += ["[[cohort.features]]", *(f"{k} = {json.dumps(v)}" for k, v in feature.items())]
    lines += ["[outcome]", *(f"{k} = {json.dumps(v)}" for k, v in data["outcome"].items())]
    lines += ["[training]", "rounds = 6"]
    study, table = folder / "small.toml", folder / "patients.csv"
    study.write_text("\n".join(lines))
    tomllib.loads(study.read_text())
    small_table().to_csv(table, index=False)
    return study, table
