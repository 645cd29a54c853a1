"""A study's network in torch, for Opacus."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from polyclinic_common.models.score_head import Network, Vector, refuse_misfit


class ResponseNetwork(nn.Module):
    """Score network and baseline, in float64.

    With one output, the last layer of the score and the baseline are one layer: Opacus keeps a hook
    on every layer, and each takes its time.

    Parameters
    ----------
    shape : Network
        Its columns, hidden layers and outputs; weights lie in the order of `network.cut`.

    Attributes
    ----------
    linear, activation : type
        What its layers are made of.
    """

    linear: type[nn.Linear] = nn.Linear
    activation: type[nn.Module] = nn.Tanh

    def __init__(self, shape: Network):
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(shape.widths):
            layers += [self.linear(size_in, size_out), self.activation()]
        self.hidden = nn.Sequential(*layers)
        one = int(shape.outputs == 1)
        self.last = self.linear(shape.widths[-1] + one, 1, bias=False)
        self.baseline = None if one else self.linear(1, shape.outputs, bias=False)
        self.double()
        self.weights = list(self.parameters())
        self._flat = torch.zeros(sum(part.numel() for part in self.weights), dtype=torch.float64)
        start = 0
        for part in self.weights:
            part.data = self._flat[start : start + part.numel()].view_as(part)
            start += part.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (B, K) for encoded rows of shape (B, width)."""
        read, intercept = self.hidden(x[:, :-1]), x[:, -1:]
        if self.baseline is None:
            logits: Tensor = self.last(torch.cat([read, intercept], dim=1))
        else:
            score = self.spread(self.last(read), self.shape.outputs)
            logits = score + self.baseline(intercept)
        return logits

    def spread(self, score: Tensor, outputs: int) -> Tensor:
        """Return the score, shape (B, 1), for every output: shape (B, K)."""
        return score.expand(-1, outputs)

    def set_weights(self, weights: Vector) -> None:
        """Copy a flat vector of shape (d,) into the network."""
        refuse_misfit(self.shape, weights)
        self._flat.copy_(torch.tensor(weights))

    def flat_gradient(self) -> Vector:
        """Return the gradient of all weights as one vector, shape (d,)."""
        parts = [
            np.zeros(p.numel()) if p.grad is None else p.grad.numpy().ravel() for p in self.weights
        ]
        return np.concatenate(parts)
