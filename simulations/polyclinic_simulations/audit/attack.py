"""Two attacks on membership, and what they achieve at few false alarms; numbers in, numbers out.

Every model was trained on some of the patients, by a known design. Each is attacked in turn, with
all others as shadow models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Design = NDArray[np.bool_]

FALSE_ALARMS = 0.01
RESAMPLES = 200
_LEAST_VARIANCE = 1e-12


def lira(signal: Floats, member: Design) -> Floats:
    """Return the likelihood ratio of every model and patient, shape (models, patients).

    A patient's signal is normal over models trained with the patient, and normal over the others:
    Carlini et al., Membership inference attacks from first principles (S&P 2022), algorithm 1,
    with the attacked model left out of both fits.

    Parameters
    ----------
    signal : array of shape (models, patients)
        What a model says about a patient.
    member : array of shape (models, patients)
        Who was in the training of what.
    """
    inside, outside = (_log_normal(signal, group) for group in (member, ~member))
    return inside - outside


def _log_normal(signal: Floats, group: Design) -> Floats:
    """Return the log-density of each signal under the others of its patient in the group."""
    weight = group.astype(np.float64)
    count = weight.sum(axis=0) - weight
    mean = ((weight * signal).sum(axis=0) - weight * signal) / count
    square = ((weight * signal**2).sum(axis=0) - weight * signal**2) / count
    variance = np.maximum((square - mean**2) * count / (count - 1), _LEAST_VARIANCE)
    found: Floats = -0.5 * ((signal - mean) ** 2 / variance + np.log(variance))
    return found


def rmia(log_likelihood: Floats) -> Floats:
    """Return how many other patients every patient's ratio is above, shape (models, patients).

    A patient's ratio is the likelihood under the attacked model over the mean of the other models:
    Zarifzadeh, Liu and Shokri, Low-cost high-power membership inference attacks (ICML 2024),
    equations 2 and 3 with gamma = 1 and all patients as population.
    """
    models = len(log_likelihood)
    total = logsumexp(log_likelihood, axis=0)
    others = total + np.log1p(-np.exp(np.minimum(log_likelihood - total, -1e-12)))
    ratio = log_likelihood - (others - np.log(models - 1))
    return np.asarray(rankdata(ratio, axis=1) / ratio.shape[1])


@dataclass(frozen=True)
class Success:
    """What an attack achieves, over all attacked models; intervals hold 95 % of resampled models.

    Attributes
    ----------
    hit_rate : float
        Members found, with one false alarm in a hundred non-members.
    auc : float
        Area under the curve: 0.5 is guessing.
    curve : tuple of (float, float)
        False-alarm rate and hit rate.
    """

    hit_rate: float
    hit_rate_interval: tuple[float, float]
    auc: float
    auc_interval: tuple[float, float]
    curve: tuple[tuple[float, float], ...]


def success(scores: Floats, member: Design) -> Success:
    """Return what scores of shape (models, patients) achieve."""
    generator, models = np.random.default_rng(0), len(scores)
    draws = [generator.integers(models, size=models) for _ in range(RESAMPLES)]
    resampled = np.array([_rates(scores[draw], member[draw]) for draw in draws])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    hit_rate, auc = _rates(scores, member)
    alarms = np.geomspace(1e-4, 1.0, 60)
    hits = _hit_rates(scores, member, alarms)
    return Success(
        hit_rate,
        (float(low[0]), float(high[0])),
        auc,
        (float(low[1]), float(high[1])),
        tuple(zip(alarms.tolist(), hits.tolist(), strict=True)),
    )


def _rates(scores: Floats, member: Design) -> tuple[float, float]:
    inside, outside = scores[member], np.sort(scores[~member])
    below = np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")
    auc = float(below.mean() / 2 / len(outside))
    return float(_hit_rates(scores, member, np.array([FALSE_ALARMS]))[0]), auc


def _hit_rates(scores: Floats, member: Design, alarms: Floats) -> Floats:
    """Return the share of members above the threshold that so many non-members pass."""
    thresholds = np.quantile(scores[~member], 1.0 - alarms, method="higher")
    inside = np.sort(scores[member])
    return np.asarray(1.0 - np.searchsorted(inside, thresholds, "right") / len(inside))
