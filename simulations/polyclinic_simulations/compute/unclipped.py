"""Plain gradients of mode `none`: a baseline for simulation, without any privacy."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from polyclinic_client.compute.patients import Block
from polyclinic_common.models.losses import PatientLoss
from polyclinic_common.models.score_head import Network, Vector
from polyclinic_common.models.torch_head import ResponseNetwork


class Unclipped:
    """The plain gradient sum, by ordinary backward passes.

    Parameters
    ----------
    network : Network
        The study's network.
    loss : PatientLoss
        Loss per patient.
    """

    def __init__(self, network: Network, loss: PatientLoss):
        self._network = ResponseNetwork(network)
        self._loss = loss

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the gradients, shape (d,)."""
        return self.loss_and_gradient(weights, blocks)[1]

    def loss_and_gradient(self, weights: Vector, blocks: Sequence[Block]) -> tuple[float, Vector]:
        """Return the summed loss and its gradient, shape (d,)."""
        self._network.set_weights(weights)
        self._network.zero_grad(set_to_none=True)
        total = 0.0
        for block in blocks:
            read = (self._network.shape.reads(block[0]), *block[1:])
            x, y, mask = (torch.from_numpy(part) for part in read)
            loss = self._loss(self._network(x), y, mask).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total, self._network.flat_gradient()
