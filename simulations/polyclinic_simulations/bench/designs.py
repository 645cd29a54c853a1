"""Made-up yes/no studies whose true probabilities are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.rowwise import expit
from polyclinic_common.study import Study, parse_study

Floats = NDArray[np.float64]
HOSPITALS, SPREAD = 6, 1.0


@dataclass(frozen=True)
class Design:
    """Columns even on [-1, 1], and log odds linear in them, with a standard deviation of one.

    Attributes
    ----------
    patients, columns : int
        To train on; and what is known of each.
    prevalence : float
        Mean of the true probabilities.
    base : float
        The declared base rate over the prevalence.
    """

    patients: int
    prevalence: float
    columns: int = 10
    base: float = 1.0

    @property
    def name(self) -> str:
        """The design in a few words."""
        rate = f"{self.prevalence:.0%}, declared {self.declared_rate:.1%}"
        return f"{self.patients} patients, {self.columns} columns, {rate}"

    @property
    def events(self) -> int:
        """Patients with the outcome, on average."""
        return round(self.patients * self.prevalence)

    @property
    def declared_rate(self) -> float:
        """The base rate that the study declares."""
        return float(np.clip(self.prevalence * self.base, 0.005, 0.9))

    def study(self, **training: Any) -> Study:
        """Return the study."""
        numeric = {"kind": "numeric", "unit": "1", "range": [-1, 1], "source": "made up"}
        return parse_study(
            {
                "polyclinic": 1,
                "id": "made-up",
                "version": "1.0.0",
                "title": "Made-up patients",
                "purpose": "Known truth",
                "expires": "2099-12-31",
                "roster": {"sites": [f"hospital {number}" for number in range(HOSPITALS)]},
                "cohort": {
                    "patient_id": "patient",
                    "site": "hospital",
                    "features": [numeric | {"name": name} for name in self._names],
                },
                "outcome": {
                    "kind": "binary",
                    "column": "answer",
                    "positive": "yes",
                    "negative": "no",
                    "source": "made up",
                    "base_rate": self.declared_rate,
                },
                "training": training,
            },
            "made-up",
        )

    def draw(self, encoding: Encoding, size: int, seed: int) -> tuple[Cohort, Floats]:
        """Return so many patients and their true probabilities; one seed, one law."""
        law = np.random.default_rng((seed, 0)).normal(size=self.columns)
        rng = np.random.default_rng((seed, 1, size))
        x = rng.uniform(-1.0, 1.0, (size, self.columns))
        odds = x @ (law * SPREAD / np.sqrt((law**2).sum() / 3.0))
        truth = expit(odds + self._level(odds))
        frame = pd.DataFrame(dict(zip(self._names, x.T, strict=True))).assign(
            answer=np.where(rng.random(size) < truth, "yes", "no")
        )
        return encoding.encode(frame, encoding.study.roster.sites[0]), truth

    @property
    def _names(self) -> list[str]:
        return [f"x{number}" for number in range(self.columns)]

    def _level(self, odds: Floats) -> float:
        """Return what to add to log odds so that the mean probability is the prevalence."""
        low, high = -30.0, 30.0
        for _ in range(60):
            middle = (low + high) / 2.0
            if float(expit(odds + middle).mean()) < self.prevalence:
                low = middle
            else:
                high = middle
        return low
