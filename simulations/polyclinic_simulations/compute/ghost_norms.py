"""Clipped gradient sums by Opacus' ghost norms, for comparison only: no hospital's node uses them.

Norms are measured in one pass and the clipped sum is taken in another (Li et al., Large language
models can be strong differentially private learners, 2022, section 4; Goodfellow, Efficient
per-example gradient computations, 2015). Where the server is not trusted that is unsafe: weights
can be chosen at which the two passes round differently, and one patient passes the clip by far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from polyclinic_client.compute.patients import Block
from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.models.losses import PatientLoss
from polyclinic_common.models.score_head import Network, Vector
from polyclinic_common.models.torch_head import ResponseNetwork


class ClippedByGhostNorms:
    """Only the norms are computed per patient; one weighted backward pass gives the clipped sum."""

    def __init__(self, network: Network, loss: PatientLoss, clip: float):
        self._network = ResponseNetwork(network)
        self._module = GradSampleModuleFastGradientClipping(
            self._network, loss_reduction="sum", max_grad_norm=clip, use_ghost_clipping=True
        )
        self._loss = loss

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the clipped gradients, shape (d,)."""
        self._network.set_weights(weights)
        total = np.zeros(weights.size)
        for block in blocks:
            total += self._clipped_sum(block)
        return total

    def _clipped_sum(self, block: Block) -> Vector:
        read = (self._network.shape.reads(block[0]), *block[1:])
        losses = patient_losses(self._loss, self._module, read)
        losses.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        coefficients = self._module.get_clipping_coef()
        self._module.zero_grad(set_to_none=True)
        self._module.disable_hooks()
        (coefficients * losses).sum().backward()
        gradient = self._network.flat_gradient()
        self._module.enable_hooks()
        self._module.zero_grad(set_to_none=True)
        return gradient


def patient_losses(loss: PatientLoss, network: nn.Module, block: Block) -> Tensor:
    """Return the losses of a block, shape (B,).

    Raises
    ------
    PrivacyError
        If the loss gives any other shape: Opacus' ghost clipping would then silently not clip.
    """
    x, y, mask = (torch.from_numpy(part) for part in block)
    losses = loss(network(x), y, mask)
    if losses.shape != (len(x),):
        raise PrivacyError(
            Code.PRIVACY_CLIP_VOID,
            f"The loss gives shape {tuple(losses.shape)} for {len(x)} patients.",
            "A loss must give one number a patient; report this as a defect.",
        )
    return losses
