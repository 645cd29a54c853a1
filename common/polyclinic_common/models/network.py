"""The network of a study: a score of the patient plus a baseline for every output.

``logit[k] = score(x) + baseline[k] * intercept``. With one output this is ordinary regression with
an intercept; with the K intervals of a time grid it is a discrete-time proportional-odds hazard
model. Only linear layers, so that Opacus and a closed form give the same gradient of one patient.
No layer mixes patients.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.study.manifest import Study

Vector = NDArray[np.float64]
LARGEST_WEIGHT = 1e6
"""Public bound on a broadcast weight: far beyond, a gradient overflows for some patients only."""


class ResponseNetwork(nn.Module):
    """Score network and baseline.

    Parameters
    ----------
    width : int
        Columns of the encoded row, the intercept (last) included.
    hidden : sequence of int
        Widths of tanh layers; empty for a linear score.
    outputs : int
        Number K of outputs.
    """

    def __init__(self, width: int, hidden: tuple[int, ...], outputs: int):
        super().__init__()
        widths = (width - 1, *hidden)
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(widths):
            layers += [nn.Linear(size_in, size_out), nn.Tanh()]
        self.score = nn.Sequential(*layers, nn.Linear(widths[-1], 1, bias=False))
        self.baseline = nn.Linear(1, outputs, bias=False)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (B, K) for encoded rows of shape (B, width)."""
        score: Tensor = self.score(x[:, :-1])
        baseline: Tensor = self.baseline(x[:, -1:])
        return score + baseline


def build_network(study: Study, encoding: Encoding) -> ResponseNetwork:
    """Return the network that `study` declares; its weights are set by `set_weights`."""
    return ResponseNetwork(encoding.width, study.model.hidden, encoding.outputs)


def weight_count(network: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def set_weights(network: nn.Module, weights: Vector) -> None:
    """Copy a flat vector of shape (d,) into the network."""
    parameters = list(network.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    if weights.shape != (count,):
        raise ModelError(
            Code.MODEL_SHAPE,
            f"The weights have shape {weights.shape}, the model has {count}.",
            "Use weights that were made for this study.",
        )
    with torch.no_grad():
        start = 0
        for parameter in parameters:
            part = weights[start : start + parameter.numel()]
            parameter.copy_(torch.from_numpy(part.reshape(tuple(parameter.shape)).copy()))
            start += parameter.numel()


def get_weights(network: nn.Module) -> Vector:
    """Return all weights as one flat float64 vector of shape (d,)."""
    parts = [parameter.detach().numpy().ravel() for parameter in network.parameters()]
    return np.concatenate(parts).astype(np.float64)


def initial_weights(study: Study, encoding: Encoding, seed: int) -> Vector:
    """Return the public starting point, shape (d,).

    Linear scores start at zero; hidden layers at Glorot-normal values drawn from `seed` (the first
    for rows of unit variables), the last layer at zero. Baselines start so that every output is
    the study's public base rate.
    """
    network = build_network(study, encoding)
    generator = np.random.default_rng(seed)
    layers = [module for module in network.score if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for depth, layer in enumerate(layers[:-1]):
            scale = encoding.row_scale if depth == 0 else 1.0
            deviation = scale * np.sqrt(2.0 / sum(layer.weight.shape))
            drawn = generator.normal(0.0, deviation, tuple(layer.weight.shape))
            layer.weight.copy_(torch.from_numpy(drawn))
            layer.bias.zero_()
        layers[-1].weight.zero_()
        start = encoding.start() / encoding.intercept
        network.baseline.weight.copy_(torch.from_numpy(start[:, None].copy()))
    return get_weights(network)


def logits(network: ResponseNetwork, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logits of shape (n, K) for encoded rows of shape (n, width), without gradients."""
    network.eval()
    with torch.no_grad():
        result: NDArray[np.float64] = network(torch.from_numpy(x)).numpy()
    return result
