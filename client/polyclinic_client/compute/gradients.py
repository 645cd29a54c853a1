"""Gradients of single patients through Opacus.

Patients pass through the network in zero-padded blocks, in float64, and Opacus' hooks give the
gradient of every one. The network's layers compute row by row
(:mod:`polyclinic_client.compute.row_network`), so that a patient's gradient is a function of the
patient's row and of nothing else: not of who else is in the cohort, nor of the place in it.
Clipping, summing and noise are ours (:mod:`polyclinic_client.compute.integers`): shortcuts that
measure a norm in one pass and sum in another (ghost norms) can be made to disagree by whoever
chooses the weights.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from polyclinic_client.compute.patients import Block
from polyclinic_common.models.score_head import Matrix, Vector, without_specks
from polyclinic_common.models.slopes import loss_slope
from polyclinic_common.models.torch_head import ResponseNetwork

KEPT_BYTES = 32_000_000

# Opacus hooks a first layer whose input needs no gradient; torch remarks on that at every call.
warnings.filterwarnings("ignore", message="Full backward hook is firing")


class OpacusRows:
    """Every patient's gradient, as Opacus' hooks leave it on the parameters.

    Parameters
    ----------
    network : ResponseNetwork
        The study's network; a node's is a `RowNetwork`.
    loss : str
        Name of the loss.
    """

    def __init__(self, network: ResponseNetwork, loss: str):
        self._network = network
        self._module = GradSampleModule(network, loss_reduction="sum")
        self._loss = loss
        _keep_freed_memory()

    def patient_gradients(self, weights: Vector, block: Block) -> Matrix:
        """Return the unclipped gradient of every patient of a block, shape (B, d).

        What overflows is infinite or NaN, in its own row, and nobody is warned.
        """
        self._network.set_weights(without_specks(weights))
        x, y, mask = block
        with np.errstate(over="ignore", invalid="ignore"):
            logits = self._module(torch.from_numpy(self._network.shape.reads(x)))
            slope = mask * loss_slope(self._loss, logits.detach().numpy(), y)
            logits.backward(torch.from_numpy(slope))
        parts = [_patient_gradient(parameter) for parameter in self._network.weights]
        for parameter in self._network.weights:
            parameter.grad = None
            parameter.grad_sample = None  # type: ignore[attr-defined]
        return np.asarray(torch.cat(parts, dim=1).numpy(), dtype=np.float64)


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
