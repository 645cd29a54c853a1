"""The heads: what a study's model reads of an encoded row, a registry of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.score_head import (
    Matrix,
    Network,
    Vector,
    cut,
    unchanged,
    weight_count,
)
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class Head:
    """A kind of model: what its score reads of an encoded row.

    To add one, write its object and a line in `HEADS`, and its name into the vocabulary of the
    contract (:class:`polyclinic_common.study.sections.ModelSection`). Gradients, clipping, noise,
    prediction and calibration follow; no head may mix patients.

    Attributes
    ----------
    columns : callable
        Columns that the score reads of an encoding, the intercept (last) included.
    reads : callable
        Gives them for encoded rows of shape (n, width), row by row: shape (n, columns). The
        intercept stays as it is, and rows should stay within norm 1, or training may diverge.
    as_encoded : bool
        Whether they are the encoded columns themselves; else coefficients mean nothing in natural
        units, and a model starts no other study.
    """

    columns: Callable[[Encoding], int]
    reads: Callable[[Matrix], Matrix] = unchanged
    as_encoded: bool = True


HEADS: Mapping[str, Head] = {
    "linear": Head(columns=lambda encoding: encoding.width),
    "mlp": Head(columns=lambda encoding: encoding.width),
}
"""What every kind of model reads, by the name that studies give it."""


def head_of(study: Study) -> Head:
    """Return the head that `study` declares."""
    return HEADS[study.model.kind]


def build_network(study: Study, encoding: Encoding) -> Network:
    """Return the network that `study` declares."""
    head = head_of(study)
    return Network(head.columns(encoding), study.model.hidden, encoding.outputs, head.reads)


def length_of(study: Study) -> int:
    """Return the number of weights of the network that `study` declares."""
    return weight_count(build_network(study, Encoding(study)))


def initial_weights(study: Study, encoding: Encoding, seed: int) -> Vector:
    """Return the public starting point, shape (d,).

    Linear scores start at zero; hidden layers at Glorot-normal values drawn from `seed` (the first
    for rows of unit variables), the last layer at zero. Baselines start so that every output is
    the study's public base rate.
    """
    network = build_network(study, encoding)
    weights = np.zeros(weight_count(network))
    layers = cut(network, weights)
    generator = np.random.default_rng(seed)
    for depth, (matrix, _) in enumerate(layers.hidden):
        scale = encoding.row_scale if depth == 0 else 1.0
        deviation = scale * np.sqrt(2.0 / sum(matrix.shape))
        matrix[:] = generator.normal(0.0, deviation, matrix.shape)
    layers.baseline[:] = encoding.start() / encoding.intercept
    return weights
