"""What metrics would be with other test patients: the bootstrap, the same for every model.

A patient counts in a resample as often as a Poisson variable of mean 1 says, drawn from a hash of
the patient's number: the same patient has the same weights for every model and in every run, so
that differences between models are paired patient by patient. Hanley and MacGibbon, Creating
non-parametric bootstrap samples using Poisson frequencies (2006). Only metrics are kept, of no
single patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.weighted import Grid
from polyclinic_common.models.predict import Prediction

Floats = NDArray[np.float64]
RESAMPLES = 200


def patient_weights(numbers: Sequence[str]) -> Floats:
    """Return how often each patient counts in each resample, shape (n, RESAMPLES)."""
    weights = np.ones((len(numbers), RESAMPLES))
    for row, number in enumerate(numbers):
        digest = hashlib.sha256(f"resample|{number}".encode()).digest()
        weights[row] = np.random.default_rng(int.from_bytes(digest[:8], "big")).poisson(
            1.0, RESAMPLES
        )
    return weights


def resampled(
    observed: Observed,
    predicted: Prediction,
    weights: Floats,
    metrics: Sequence[str],
    grid: Grid = (),
) -> dict[str, list[float | None]]:
    """Return every metric in every resample; null where undefined.

    Parameters
    ----------
    observed : Observed
        Of n patients.
    predicted : Prediction
        For the same; a value that is NaN is left out.
    weights : array of shape (n, R)
        From :func:`patient_weights`.
    grid : tuple of float
        The times of a survival study.
    """
    known = ~np.isnan(observed.value) & ~np.isnan(predicted.value)
    if not known.any():
        return {}
    taken = observed.take(known), predicted.take(known), weights[known], grid
    if predicted.survival is None:
        metrics = [key for key in metrics if not METRICS[key].needs_curve]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {key: METRICS[key].of(*taken) for key in metrics}
    return {
        key: [float(value) if np.isfinite(value) else None for value in values]
        for key, values in found.items()
    }
