"""Clipped gradient sums in closed form, for heads made of linear layers.

The gradient of one patient in a linear layer is the outer product of the gradient at its output
and its input, so its norm is the product of their norms (bias: a further input of one), and the
clipped sum of all patients is one weighted matrix product: Goodfellow, Efficient per-example
gradient computations (2015), section 4. Equal to Opacus up to rounding; a hospital's node uses
Opacus, a simulation may use this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from polyclinic_client.compute.patients import Block, GradientEngine
from polyclinic_common.models.score_head import Matrix, Network, Vector, Weights, cut
from polyclinic_common.models.slopes import loss_slope
from polyclinic_common.secure_sum.masks import Integers


@dataclass(frozen=True)
class RoundedProducts:
    r"""Clipped sums in float64, rounded once: for simulation, where the server is trusted.

    The plan charges the slack :math:`C + \gamma\sqrt d + n^2 2^{-52} C`
    (:mod:`polyclinic_common.privacy.sum_plan`).
    """

    engine: GradientEngine
    grid: float

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:
        """Return the sum over the patients of all blocks, shape (d,)."""
        return np.rint(self.engine.gradient_sum(weights, blocks) / self.grid).astype(np.int64)


class ClosedForm:
    """A gradient engine without torch.

    Parameters
    ----------
    network : Network
        The study's network.
    loss : str
        Name of the loss.
    clip : float or None
        Bound on one patient's gradient; None does not clip (mode `none`).
    """

    def __init__(self, network: Network, loss: str, clip: float | None):
        self._network = network
        self._loss = loss
        self._clip = clip

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the (clipped) gradients, shape (d,), float64."""
        total = np.zeros(weights.size)
        layers, sums = cut(self._network, weights), cut(self._network, total)
        for block in blocks:
            self._add(sums, layers, block)
        return total

    def _add(self, sums: Weights, layers: Weights, block: Block) -> None:
        """Add the clipped gradients of a block to `sums`."""
        x, y, mask = self._network.reads(block[0]), *block[1:]
        inputs, intercept = activations(layers, x), x[:, -1:]
        logits = (inputs[-1] @ layers.last)[:, None] + intercept * layers.baseline
        at_logits = loss_slope(self._loss, logits, y, expit)
        at_logits *= mask
        at_score = at_logits.sum(axis=1)
        outputs = _backward(layers, inputs, at_score)
        at_baseline = intercept * at_logits
        factor = self._factors(inputs, outputs, at_score, at_baseline)
        hidden, last, baseline = sums
        for layer, at_output, read in zip(hidden, outputs, inputs[:-1], strict=True):
            matrix, bias = layer
            matrix += (factor[:, None] * at_output).T @ read
            bias += factor @ at_output
        last += (factor * at_score) @ inputs[-1]
        baseline += factor @ at_baseline

    def _factors(
        self, inputs: list[Matrix], outputs: list[Matrix], at_score: Vector, at_baseline: Matrix
    ) -> Vector:
        """Return every patient's clipping factor, shape (B,); 0 where the norm overflows."""
        if self._clip is None:
            return np.ones_like(at_score)
        squares = at_score**2 * np.vecdot(inputs[-1], inputs[-1])
        squares += np.vecdot(at_baseline, at_baseline)
        for at_output, read in zip(outputs, inputs[:-1], strict=True):
            squares += np.vecdot(at_output, at_output) * (np.vecdot(read, read) + 1.0)
        norms = np.sqrt(squares)
        factor = self._clip / np.maximum(norms, self._clip)
        return np.where(np.isfinite(norms), factor, 0.0)


def activations(layers: Weights, x: Matrix) -> list[Matrix]:
    """Return what every layer of the score reads: encoded columns, then the tanh layers'."""
    inputs = [x[:, :-1]]
    for matrix, bias in layers.hidden:
        hidden = inputs[-1] @ matrix.T
        hidden += bias
        inputs.append(_tanh(hidden))
    return inputs


def _tanh(values: Matrix) -> Matrix:
    """Return the hyperbolic tangent within 4e-16, in the place of `values`.

    As ``1 - 2 / (exp(2 values) + 1)``: numpy's exp is several times faster than its tanh.
    """
    values *= 2.0
    np.exp(np.clip(values, -80.0, 80.0, out=values), out=values)  # beyond, it is -1 or 1
    values += 1.0
    np.divide(-2.0, values, out=values)
    values += 1.0
    return values


def _backward(layers: Weights, inputs: list[Matrix], at_score: Vector) -> list[Matrix]:
    """Return the gradients at the outputs of the hidden layers, first layer first."""
    outputs: list[Matrix] = []
    if not layers.hidden:
        return outputs
    flowing = at_score[:, None] * layers.last
    for depth in range(len(layers.hidden) - 1, -1, -1):
        hidden = inputs[depth + 1]
        outputs.insert(0, flowing * (1.0 - hidden * hidden))
        if depth:
            flowing = outputs[0] @ layers.hidden[depth][0]
    return outputs
