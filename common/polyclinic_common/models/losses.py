"""Losses of one patient: separable, so that one patient's gradient depends on no other patient.

Each takes logits, targets and mask of shape (B, K) and returns shape (B,). Losses that mix
patients (Cox's partial likelihood, ranking, batch balancing) would void the bound on one
patient's contribution and are not offered.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from polyclinic_common.models import HUBER_KNEE

PatientLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def squared(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Half the squared error of the transformed outcome on [-1, 1]."""
    return (0.5 * mask * (logits - target).square()).sum(dim=1)


def huber(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Huber's loss: squared up to an error of 0.25 on the [-1, 1] scale, linear beyond.

    Huber, Robust estimation of a location parameter (1964), equation 1.2.
    """
    return (mask * huber_loss(logits, target, reduction="none", delta=HUBER_KNEE)).sum(dim=1)


def logistic(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of a yes/no outcome; summed over a time grid, of a survival time.

    Tutz and Schmid, Modeling Discrete Time-to-Event Data (2016), equation 3.16.
    """
    return (mask * binary_cross_entropy_with_logits(logits, target, reduction="none")).sum(dim=1)


LOSSES: dict[str, PatientLoss] = {
    "squared": squared,
    "huber": huber,
    "logistic": logistic,
    "hazard": logistic,
}
