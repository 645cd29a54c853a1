"""Gradients of single patients through Opacus, and their clipped sum.

Patients pass through the network in zero-padded blocks of one fixed shape, in float64, so that
the result for one patient does not depend on who else is in the cohort (``docs/privacy.md``).
Opacus gives the gradient of every patient (hooks), which is clipped on its own: shortcuts that
measure a norm in one pass and sum in another (ghost norms) can be made to disagree by whoever
chooses the weights. Noise is never left to Opacus.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from polyclinic_client.patients import Block
from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.models.losses import PatientLoss
from polyclinic_common.models.network import Matrix, Network, Vector
from polyclinic_common.models.torch_network import ResponseNetwork

KEPT_BYTES = 32_000_000

# Opacus hooks a first layer whose input needs no gradient; torch remarks on that at every call.
warnings.filterwarnings("ignore", message="Full backward hook is firing")


class ClippedByHooks:
    """Every patient's gradient is materialised by Opacus' hooks and clipped on its own.

    Parameters
    ----------
    network : Network
        The study's network.
    loss : PatientLoss
        Loss per patient.
    clip : float
        Bound C on the Euclidean norm of one patient's gradient.
    """

    def __init__(self, network: Network, loss: PatientLoss, clip: float):
        self._network = ResponseNetwork(network)
        self._module = GradSampleModule(self._network, loss_reduction="sum")
        self._loss = loss
        self._clip = clip
        _keep_freed_memory()

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the clipped gradients, shape (d,): sensitivity C."""
        self._network.set_weights(weights)
        total = np.zeros(weights.size)
        for block in blocks:
            total += self._clipped_sum(self._gradient_parts(block))
        return total

    def patient_gradients(self, weights: Vector, block: Block) -> Matrix:
        """Return the unclipped gradient of every patient of a block, shape (B, d)."""
        self._network.set_weights(weights)
        rows = torch.cat(self._gradient_parts(block), dim=1)
        return np.asarray(rows.numpy(), dtype=np.float64)

    def _clipped_sum(self, parts: list[Tensor]) -> Vector:
        """Return the clipped sum of a block, from every parameter's gradients, shape (d,)."""
        norms = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], dim=1)
        norms = torch.linalg.vector_norm(norms, dim=1)
        usable = torch.isfinite(norms)
        if not bool(usable.all()):
            parts = [torch.where(usable[:, None], part, 0.0) for part in parts]
            norms = torch.where(usable, norms, 0.0)
        factor = self._clip / norms.clamp(min=self._clip)
        return np.asarray(torch.cat([factor @ part for part in parts]).numpy(), dtype=np.float64)

    def _gradient_parts(self, block: Block) -> list[Tensor]:
        """Return every parameter's gradients, one row a patient, and clear them in the network."""
        losses = patient_losses(self._loss, self._module, block)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        parts = [_patient_gradient(parameter) for parameter in self._network.weights]
        for parameter in self._network.weights:
            parameter.grad = None
            parameter.grad_sample = None  # type: ignore[attr-defined]
        return parts


def _keep_freed_memory() -> None:
    """Have the C library keep the memory that a step frees for the next step.

    glibc returns memory to the system once twice as much is free as the largest block it has seen
    freed, up to 32 MiB (``M_MMAP_THRESHOLD`` in mallopt(3)): with blocks of one size that is after
    every step, and to be given the pages again takes as long as a third of the step. Freeing one
    block that was never touched raises that bound.
    """
    np.empty(KEPT_BYTES, dtype=np.uint8)


def _patient_gradient(parameter: nn.Parameter) -> Tensor:
    """Return what Opacus' hooks left on a parameter, shape (B, size)."""
    gradient: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
    return gradient.reshape(len(gradient), -1)


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
