"""Derivatives of the losses of one patient by its logits, without torch.

The losses themselves are in :mod:`polyclinic_common.models.losses`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polyclinic_common import rowwise
from polyclinic_common.models import HUBER_KNEE

Matrix = NDArray[np.float64]


def loss_slope(
    loss: str,
    logits: Matrix,
    target: Matrix,
    expit: Callable[[Matrix], Matrix] = rowwise.expit,
) -> Matrix:
    """Return the derivative of a loss by every logit, shape (B, K).

    Parameters
    ----------
    loss : str
        Its name in the study: ``squared``, ``huber``, ``logistic`` or ``hazard``.
    logits, target : array of shape (B, K)
        What the network gives, and what came true.
    expit : callable
        The logistic function; the default depends on nothing but its argument.
    """
    if loss in {"logistic", "hazard"}:
        return expit(logits) - target
    error = logits - target
    return np.clip(error, -HUBER_KNEE, HUBER_KNEE) if loss == "huber" else error
