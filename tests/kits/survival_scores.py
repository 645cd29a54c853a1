"""Survival scores of single models, written plainly, to compare weighted ones with."""

from __future__ import annotations

import numpy as np

from polyclinic_common.evaluation.survival import time_weights
from polyclinic_common.evaluation.survival_scores import Floats, Status


def brier_scores(seen: list[Status | None], survival: Floats) -> list[float | None]:
    r"""Return the Brier score at every time; `survival` of shape (n, K) is what was predicted.

    Graf et al. (1999), the score under censoring:
    :math:`BS(t) = n^{-1} [\sum_{T_i \le t} w_i S_i(t)^2 + \sum_{T_i > t} w_i (1 - S_i(t))^2]`.
    """
    return [
        None
        if status is None
        else float(np.mean(status.weights * np.square(status.free - survival[:, index])))
        for index, status in enumerate(seen)
    ]


def integrated_brier(
    seen: list[Status | None], survival: Floats, times: tuple[float, ...]
) -> float | None:
    r"""Return the integrated Brier score up to the last time, null if a time has none.

    :math:`\int_0^\tau BS(t)\,dt / \tau` by the trapezoidal rule over the times of the grid, with
    BS(0) = 0: nobody has had the event, and everybody is predicted to be without it.
    """
    scores = [score for score in brier_scores(seen, survival) if score is not None]
    if len(scores) < len(seen):
        return None
    return float(np.asarray(scores) @ time_weights(np.asarray(times)))


def pairs_at(status: Status | None, risk: Floats) -> tuple[float, float]:
    r"""Return weighted pairs of a case and a patient without the event: rightly ordered, and all.

    Numerator and denominator of the cumulative/dynamic AUC (Heagerty, Lumley and Pepe,
    Time-dependent ROC curves for censored survival data and a diagnostic marker (2000)) as
    weighted by Uno, Cai, Tian and Wei, Evaluating prediction rules for t-year survivors with
    censored regression models (2007): :math:`\sum w_i w_j [1(r_i > r_j) + 1(r_i = r_j)/2]` and
    :math:`\sum w_i w_j` over :math:`T_i \le t < T_j`. Who is without the event at t weighs the
    same as all others who are.
    """
    if status is None or not status.cases.any() or not status.free.any():
        return 0.0, 0.0
    others = np.sort(risk[status.free])
    lower = np.searchsorted(others, risk[status.cases], side="left")
    not_higher = np.searchsorted(others, risk[status.cases], side="right")
    weights, each = status.weights[status.cases], status.weights[status.free][0]
    ordered = float(weights @ (lower + not_higher) / 2.0 * each)
    return ordered, float(weights.sum() * each * len(others))


def time_dependent_auc(seen: list[Status | None], risk: Floats) -> float | None:
    """Return the AUC over all times, each weighing the pairs that it compares; null without any."""
    ordered, pairs = np.sum([pairs_at(status, risk) for status in seen], axis=0)
    return float(ordered / pairs) if pairs > 0 else None
