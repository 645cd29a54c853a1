"""Who is held out from training: decided by the study alone, patient by patient."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.values import as_text, as_words, column_or_missing
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.sections import Fraction, SplitColumn

if TYPE_CHECKING:
    import pandas as pd

LEAST_DECLARED = 10


def held_out(study: Study, frame: pd.DataFrame, seed: int = 0) -> NDArray[np.bool_]:
    """Return which rows are held out, shape (n,).

    Parameters
    ----------
    seed : int
        Of the hash that chooses a fraction; a consortium uses 0.
    """
    holdout = study.evaluation.holdout
    if isinstance(holdout, Fraction):
        numbers = as_text(frame[study.cohort.patient_id])
        return np.array([uniform(f"{n}|{seed}") < holdout.fraction for n in numbers], dtype=bool)
    if isinstance(holdout, SplitColumn):
        return (
            as_words(column_or_missing(frame, holdout.column), (holdout.test,)) == holdout.test
        ).to_numpy()
    return as_text(frame[study.cohort.site]).isin(holdout.sites).to_numpy()


def declared_for_training(study: Study, declared: int) -> int:
    """Return how many declared patients of a hospital that trains count: public, rounded."""
    holdout = study.evaluation.holdout
    if isinstance(holdout, Fraction):
        return max(LEAST_DECLARED, round(declared * (1.0 - holdout.fraction) / 10) * 10)
    return declared


def uniform(text: str) -> float:
    """Return a number in [0, 1) that is a hash of `text`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64
