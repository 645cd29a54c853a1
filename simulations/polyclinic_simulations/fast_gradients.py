"""Clipped gradient sums in closed form, for heads made of linear layers.

The gradient of one patient in a linear layer is the outer product of the gradient at its output
and its input, so its norm is the product of their norms (bias: a further input of one), and the
clipped sum of all patients is one weighted matrix product: Goodfellow, Efficient per-example
gradient computations (2015), section 4. Equal to Opacus up to rounding; a hospital's node uses
Opacus, a simulation may use this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from polyclinic_client.gradients import Block
from polyclinic_common.models.losses import HUBER_KNEE
from polyclinic_common.models.network import Vector

Matrix = NDArray[np.float64]
Layer = tuple[Matrix, Vector]


class ClosedForm:
    """A gradient engine for `ResponseNetwork`.

    Parameters
    ----------
    width, hidden, outputs : int, tuple of int, int
        The network's shape: columns with the intercept, tanh layers, outputs K.
    loss : str
        Name of the loss.
    clip : float or None
        Bound on one patient's gradient; None does not clip (mode `none`).
    """

    def __init__(
        self, width: int, hidden: tuple[int, ...], outputs: int, *, loss: str, clip: float | None
    ):
        self._widths = (width - 1, *hidden)
        self._outputs = outputs
        self._loss = loss
        self._clip = clip

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum of the (clipped) gradients, shape (d,), float64."""
        total = np.zeros(weights.size)
        for x, y, mask in blocks:
            total += self._block_sum(weights, x.numpy(), y.numpy(), mask.numpy())
        return total

    def _block_sum(self, weights: Vector, x: Matrix, y: Matrix, mask: Matrix) -> Vector:
        layers, last, baseline = self._unpack(weights)
        inputs = [x[:, :-1]]
        for weight, bias in layers:
            inputs.append(np.tanh(inputs[-1] @ weight.T + bias))
        intercept = x[:, -1:]
        logits = (inputs[-1] @ last)[:, None] + intercept * baseline
        at_logits = mask * loss_slope(self._loss, logits, y)
        at_score = at_logits.sum(axis=1, keepdims=True)
        outputs = self._backward(layers, last, inputs, at_score)
        factor = self._factors(inputs, outputs, at_score, intercept * at_logits)
        parts: list[Matrix] = []
        for at_output, layer_input in zip(outputs, inputs[:-1], strict=True):
            weighted = factor * at_output
            parts += [(weighted.T @ layer_input).ravel(), weighted.sum(axis=0)]
        parts.append(inputs[-1].T @ (factor * at_score)[:, 0])
        parts.append((factor * intercept * at_logits).sum(axis=0))
        return np.concatenate(parts)

    def _backward(
        self,
        layers: list[Layer],
        last: Vector,
        inputs: list[Matrix],
        at_score: Matrix,
    ) -> list[Matrix]:
        """Return the gradients at the outputs of the hidden layers, first layer first."""
        outputs: list[Matrix] = []
        for depth in range(len(layers) - 1, -1, -1):
            above = layers[depth + 1][0] if outputs else last[None, :]
            flowing = (outputs[0] if outputs else at_score) @ above
            outputs.insert(0, flowing * (1.0 - inputs[depth + 1] ** 2))
        return outputs

    def _factors(
        self, inputs: list[Matrix], outputs: list[Matrix], at_score: Matrix, at_baseline: Matrix
    ) -> Matrix:
        """Return every patient's clipping factor, shape (B, 1); 0 where the norm overflows."""
        if self._clip is None:
            return np.ones_like(at_score)
        squares = at_score[:, 0] ** 2 * _squares(inputs[-1]) + _squares(at_baseline)
        for at_output, layer_input in zip(outputs, inputs[:-1], strict=True):
            squares += _squares(at_output) * (_squares(layer_input) + 1.0)
        norms = np.sqrt(squares)
        factor = self._clip / np.maximum(norms, self._clip)
        return np.where(np.isfinite(norms), factor, 0.0)[:, None]

    def _unpack(self, weights: Vector) -> tuple[list[Layer], Vector, Vector]:
        """Cut the flat vector into hidden layers, last score layer and baselines."""
        layers: list[Layer] = []
        start = 0
        for size_in, size_out in zip(self._widths[:-1], self._widths[1:], strict=True):
            end = start + size_in * size_out
            weight = weights[start:end].reshape(size_out, size_in)
            layers.append((weight, weights[end : end + size_out]))
            start = end + size_out
        split = start + self._widths[-1]
        return layers, weights[start:split], weights[split:]


def loss_slope(loss: str, logits: Matrix, y: Matrix) -> Matrix:
    """Return the derivative of a loss by its logits, shape (B, K)."""
    if loss in {"logistic", "hazard"}:
        return np.asarray(expit(logits) - y)
    error = logits - y
    knee = HUBER_KNEE if loss == "huber" else np.inf
    return np.asarray(np.clip(error, -knee, knee), dtype=np.float64)


def _squares(rows: Matrix) -> Vector:
    return np.asarray(np.einsum("bd,bd->b", rows, rows), dtype=np.float64)
