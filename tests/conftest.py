"""What all tests share: optional things that may be required, and small studies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from polyclinic_client.accounts.registry import default_registry
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study import Study, parse_study

REQUIRED = {word for word in os.environ.get("POLYCLINIC_REQUIRE", "").split(",") if word}


def unavailable(what: str, why: str) -> None:
    """Skip for want of `what`; fail instead where POLYCLINIC_REQUIRE lists it."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required: {why}")
    pytest.skip(why)


class NoNoise:
    """A zero-noise source, injected through the constructor.

    Parameters
    ----------
    secret : bytes
        The site's secret; not used.
    """

    def __init__(self, secret: bytes = b""):
        pass

    def gaussian(self, size: int, deviation: float) -> Vector:
        """Return zeros."""
        return np.zeros(size)

    def discrete(self, size: int, variance: int, context: bytes) -> NDArray[np.int64]:
        """Return zeros."""
        return np.zeros(size, dtype=np.int64)


@pytest.fixture(autouse=True, scope="session")
def real_registry() -> Iterator[None]:
    """See that no test entered an account into the registry of whoever runs the tests."""
    place = default_registry()
    before = place.read_bytes() if place.exists() else None
    yield
    assert (place.read_bytes() if place.exists() else None) == before


@pytest.fixture
def realdata() -> Path:
    """Return the folder of public data sets."""
    folder = os.environ.get("POLYCLINIC_DATA")
    if not folder or not Path(folder).is_dir():
        unavailable("realdata", "set POLYCLINIC_DATA to the folder of public data sets")
    return Path(str(folder))


@pytest.fixture
def ray_scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the folder in which Ray keeps its files; skip where Ray is absent."""
    if find_spec("ray") is None:
        unavailable("ray", "install the extra ray")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one worker starts sooner
    with TemporaryDirectory() as folder:  # tmp_path is too long for the name of a socket
        short = partial(TemporaryDirectory, dir=folder)
        monkeypatch.setattr("polyclinic_simulations.engines.ray.TemporaryDirectory", short)
        yield Path(folder)


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
