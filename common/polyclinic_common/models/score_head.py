"""The network of a study: a score of the patient plus a baseline for every output.

``logit[k] = score(x) + baseline[k] * intercept``. With one output this is ordinary regression with
an intercept; with the K intervals of a time grid it is a discrete-time proportional-odds hazard
model. Only linear layers, so that Opacus and a closed form give the same gradient of one patient.
No layer mixes patients. This module needs no torch; ``torch_head`` is the same network in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.errors import Code, ModelError
from polyclinic_common.rowwise import tanh, weighted_sums

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
LARGEST_WEIGHT = 1e3
"""Public bound on a broadcast weight: far beyond what any model needs on rows of norm 1."""
SPECK = 2.0**-30
"""A weight nearer to zero counts as zero."""


def unchanged(x: Matrix) -> Matrix:
    """Return encoded rows as they are."""
    return x


@dataclass(frozen=True)
class Network:
    """The shape of a study's network.

    Attributes
    ----------
    width : int
        Columns that the score reads, the intercept (last) included.
    hidden : tuple of int
        Widths of tanh layers; empty for a linear score.
    outputs : int
        Number K of outputs.
    reads : callable
        Gives, row by row, what the score reads of encoded rows.
    """

    width: int
    hidden: tuple[int, ...]
    outputs: int
    reads: Callable[[Matrix], Matrix] = unchanged

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers that every layer of the score reads, first layer first."""
        return (self.width - 1, *self.hidden)


class Weights(NamedTuple):
    """A flat vector of weights cut into layers: views, not copies.

    Attributes
    ----------
    hidden : list of (array of shape (out, in), array of shape (out,))
        Weight and bias of the tanh layers.
    last, baseline : array
        Last layer of the score; baseline of every output, shape (K,).
    """

    hidden: list[tuple[Matrix, Vector]]
    last: Vector
    baseline: Vector


def weight_count(network: Network) -> int:
    """Return the number of weights."""
    inner = sum((size_in + 1) * size_out for size_in, size_out in pairwise(network.widths))
    return inner + network.widths[-1] + network.outputs


def refuse_misfit(network: Network, weights: Vector) -> None:
    """Refuse a vector that is not one of this network's.

    Raises
    ------
    ModelError
        If its shape is not (d,).
    """
    count = weight_count(network)
    if weights.shape != (count,):
        raise ModelError(
            Code.MODEL_SHAPE,
            f"The weights have shape {weights.shape}, the model has {count}.",
            "Use weights that were made for this study.",
        )


def cut(network: Network, weights: Vector) -> Weights:
    """Cut a flat vector of shape (d,) into layers."""
    hidden: list[tuple[Matrix, Vector]] = []
    start = 0
    for size_in, size_out in pairwise(network.widths):
        end = start + size_in * size_out
        matrix = weights[start:end].reshape(size_out, size_in)
        start = end + size_out
        hidden.append((matrix, weights[end:start]))
    split = start + network.widths[-1]
    return Weights(hidden, weights[start:split], weights[split:])


def without_specks(weights: Vector) -> Vector:
    """Return weights with those nearer to zero than 2^-30 set to zero.

    Products of such over many layers, or their squares, would be subnormal, which some processors
    take a hundred times as long for: time that would tell about patients. With nine layers at most
    2^-30 leaves 2^-400 at the least, and 2^-800 for its square.
    """
    return np.where(np.abs(weights) < SPECK, 0.0, weights)


def logits(network: Network, weights: Vector, x: Matrix) -> Matrix:
    """Return logits of shape (n, K) for encoded rows of shape (n, width), row by row."""
    refuse_misfit(network, weights)
    layers, x = cut(network, without_specks(weights)), network.reads(x)
    read = x[:, :-1]
    for matrix, bias in layers.hidden:
        read = tanh(weighted_sums(read, matrix) + bias)
    score = weighted_sums(read, layers.last[None, :])
    return np.asarray(score + x[:, -1:] * layers.baseline)
