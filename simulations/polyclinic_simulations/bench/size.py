"""How large a measured job is, and its made-up patients. Imports nothing but numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED = 20240601
EPSILON, DELTA, CLIP = 4.0, 1e-5, 0.7


@dataclass(frozen=True)
class Size:
    """A job; its defaults are those of job J.

    Attributes
    ----------
    sites, patients, columns : int
        Hospitals, patients of each, numbers known of each patient.
    hidden : tuple of int
        Widths of hidden layers; empty for a linear head.
    rounds : int
        Rounds of training.
    schedule : str
        `sampled`: one epoch of Poisson batches a round; `full`: one gradient of everybody.
    batch : int
        Expected patients of a Poisson batch.
    """

    sites: int = 10
    patients: int = 500
    columns: int = 30
    hidden: tuple[int, ...] = (64, 64)
    rounds: int = 30
    schedule: str = "sampled"
    batch: int = 64


def made_up_patients(size: Size, site: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a site's numbers in [-1, 1], shape (n, columns), and 0/1 outcomes, shape (n, 1)."""
    generator = np.random.default_rng((SEED, site))
    x = generator.uniform(-1.0, 1.0, (size.patients, size.columns))
    score = 4.0 * x.sum(axis=1, keepdims=True) / np.sqrt(size.columns)
    return x, (generator.random((size.patients, 1)) < 1.0 / (1.0 + np.exp(-score))).astype(float)
