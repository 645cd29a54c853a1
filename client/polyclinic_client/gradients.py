"""Gradients of single patients through Opacus, and their clipped sum.

Patients pass through the network in zero-padded blocks of one fixed shape, in float64, so that
the result for one patient does not depend on who else is in the cohort (``docs/privacy.md``).
Opacus gives the gradient of every patient (hooks) or, for wide models, only its norm (ghost
norms: Li et al., Large language models can be strong differentially private learners, 2022,
section 4; Goodfellow, Efficient per-example gradient computations, 2015). Noise is never left
to Opacus.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic_common.data.encoding import Cohort
from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.models.losses import PatientLoss
from polyclinic_common.models.network import Vector, set_weights, weight_count

BLOCK = 256
WIDEST_FOR_HOOKS = 20_000

Block = tuple[Tensor, Tensor, Tensor]

# Opacus hooks a first layer whose input needs no gradient; torch remarks on that at every call.
warnings.filterwarnings("ignore", message="Full backward hook is firing")


class GradientEngine(Protocol):
    """Computes the sum over patients of their gradients."""

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the patients' gradients at `weights`, shape (d,), float64."""
        ...


class ClippedByHooks:
    """Every patient's gradient is materialised by Opacus' hooks and clipped on its own.

    Parameters
    ----------
    network : nn.Module
        The study's network; the engine wraps it.
    loss : PatientLoss
        Loss per patient.
    clip : float
        Bound C on the Euclidean norm of one patient's gradient.
    """

    def __init__(self, network: nn.Module, loss: PatientLoss, clip: float):
        from opacus.grad_sample import GradSampleModule  # noqa: PLC0415  (heavy)

        self._module = GradSampleModule(network, loss_reduction="sum")
        self._parameters = list(network.parameters())
        self._loss = loss
        self._clip = clip

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the clipped gradients, shape (d,): sensitivity C."""
        set_weights(self._module, weights)
        total = np.zeros(weights.size)
        for x, y, mask in blocks:
            total += self._clipped_sum(self._gradient_parts(x, y, mask))
        return total

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

    def patient_gradients(self, x: Tensor, y: Tensor, mask: Tensor) -> NDArray[np.float64]:
        """Return the unclipped gradient of every patient of a block, shape (B, d)."""
        rows = torch.cat(self._gradient_parts(x, y, mask), dim=1)
        return np.asarray(rows.numpy(), dtype=np.float64)

    def _gradient_parts(self, x: Tensor, y: Tensor, mask: Tensor) -> list[Tensor]:
        """Return every parameter's gradients, one row a patient, and clear them in the network."""
        losses = patient_losses(self._loss, self._module(x), y, mask)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        parts = [_patient_gradient(parameter) for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
            parameter.grad_sample = None  # type: ignore[attr-defined]
        return parts


def _patient_gradient(parameter: nn.Parameter) -> Tensor:
    """Return what Opacus' hooks left on a parameter, shape (B, size)."""
    gradient: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
    return gradient.reshape(len(gradient), -1)


class ClippedByGhostNorms:
    """Only the norms are computed per patient; one weighted backward pass gives the clipped sum."""

    def __init__(self, network: nn.Module, loss: PatientLoss, clip: float):
        from opacus.grad_sample import (  # noqa: PLC0415  (heavy)
            GradSampleModuleFastGradientClipping,
        )

        self._module = GradSampleModuleFastGradientClipping(
            network, loss_reduction="sum", max_grad_norm=clip, use_ghost_clipping=True
        )
        self._loss = loss

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the clipped gradients, shape (d,)."""
        set_weights(self._module, weights)
        total = np.zeros(weights.size)
        for x, y, mask in blocks:
            total += self._clipped_sum(x, y, mask)
        return total

    def _clipped_sum(self, x: Tensor, y: Tensor, mask: Tensor) -> Vector:
        losses = patient_losses(self._loss, self._module(x), y, mask)
        losses.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        coefficients = self._module.get_clipping_coef()
        self._module.zero_grad(set_to_none=True)
        self._module.disable_hooks()
        (coefficients * losses).sum().backward()
        gradient = flat_gradient(self._module)
        self._module.enable_hooks()
        self._module.zero_grad(set_to_none=True)
        return gradient


class Unclipped:
    """The plain gradient sum of mode `none`: a baseline for simulation, without any privacy."""

    def __init__(self, network: nn.Module, loss: PatientLoss):
        self._network = network
        self._loss = loss

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the gradients, shape (d,)."""
        return self.loss_and_gradient(weights, blocks)[1]

    def loss_and_gradient(self, weights: Vector, blocks: Sequence[Block]) -> tuple[float, Vector]:
        """Return the summed loss and its gradient, shape (d,)."""
        set_weights(self._network, weights)
        self._network.zero_grad(set_to_none=True)
        total = 0.0
        for x, y, mask in blocks:
            loss = patient_losses(self._loss, self._network(x), y, mask).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total, flat_gradient(self._network)


def clipped_engine(network: nn.Module, loss: PatientLoss, clip: float) -> GradientEngine:
    """Return the Opacus engine that suits the width of the model."""
    if weight_count(network) <= WIDEST_FOR_HOOKS:
        return ClippedByHooks(network, loss, clip)
    return ClippedByGhostNorms(network, loss, clip)


def patient_losses(loss: PatientLoss, logits: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Return losses of shape (B,).

    Raises
    ------
    PrivacyError
        If the loss gives any other shape: Opacus' ghost clipping would then silently not clip.
    """
    losses = loss(logits, y, mask)
    if losses.shape != (len(logits),):
        raise PrivacyError(
            Code.PRIVACY_CLIP_VOID,
            f"The loss gives shape {tuple(losses.shape)} for {len(logits)} patients.",
            "A loss must give one number a patient; report this as a defect.",
        )
    return losses


class Patients:
    """The frozen snapshot of a cohort, ready to be cut into blocks.

    A patient with a number that is not finite is replaced by zeros: 0 * NaN is NaN, and one such
    row would spoil the sum of all.

    Parameters
    ----------
    cohort : Cohort
        The encoded patients.
    block : int or None
        Patients in a block, zero-padded with mask 0; None makes one block of exact size.
    """

    def __init__(self, cohort: Cohort, block: int | None = BLOCK):
        self._parts = [cohort.x, cohort.y, cohort.mask]
        finite = np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in self._parts])
        if not finite.all():
            self._parts = [np.where(finite[:, None], part, 0.0) for part in self._parts]
        self._block = block
        self._whole = self._cut(self._parts)

    def __len__(self) -> int:
        return len(self._parts[0])

    def blocks(self, rows: NDArray[np.int64] | None = None) -> list[Block]:
        """Return all patients, or those of `rows`, in blocks."""
        return self._whole if rows is None else self._cut([part[rows] for part in self._parts])

    def _cut(self, parts: list[NDArray[np.float64]]) -> list[Block]:
        size = len(parts[0])
        if size == 0:
            return []
        block = self._block or size
        padding = -size % block
        padded = [np.pad(part, ((0, padding), (0, 0))) if padding else part for part in parts]
        cut = [torch.split(torch.from_numpy(part), block) for part in padded]
        return list(zip(*cut, strict=True))


def flat_gradient(network: nn.Module) -> Vector:
    """Return the gradient of all weights as one vector, shape (d,)."""
    parts = [
        np.zeros(p.numel()) if p.grad is None else p.grad.numpy().ravel()
        for p in network.parameters()
    ]
    return np.concatenate(parts)
