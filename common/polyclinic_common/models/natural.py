"""A model in the units of its study: weights to coefficients a person can read, and back.

The score of a linear model is a sum of coefficients times values in their own units plus an
intercept, on the scale of the outcome: its (transformed) unit, or log odds. The same holds for
what every unit of a first hidden layer reads. Both ways are exact up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from polyclinic_common.data.encoding import Encoding, transform
from polyclinic_common.data.natural import NaturalColumns
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Vector, cut, refuse_misfit, weight_count
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, Outcome


@dataclass(frozen=True)
class NaturalModel:
    """A model in natural units.

    Attributes
    ----------
    first : array of shape (f, p)
        Coefficients of the encoded columns (intercept left out) per unit of each: one row for a
        linear score, one a unit of the first hidden layer otherwise.
    biases : array of shape (f,)
        Constants of these rows; zero for a linear score, whose constant is in `intercepts`.
    deeper : tuple of (array, array)
        Weights and biases of the other hidden layers.
    last : array
        Last layer of the score; empty for a linear score.
    intercepts : array of shape (K,)
        Constant of every output, on the scale of the outcome.
    """

    first: Matrix
    biases: Vector
    deeper: tuple[tuple[Matrix, Vector], ...]
    last: Vector
    intercepts: Vector

    def shifted(self, first: Matrix, shift: Vector) -> NaturalModel:
        """Return the model with other first coefficients, whose rows gained constants (f,)."""
        if self.last.size:
            return replace(self, first=first, biases=self.biases + shift)
        return replace(self, first=first, intercepts=self.intercepts + shift[0])


def outcome_scale(outcome: Outcome) -> tuple[float, float]:
    """Return half the width and the middle of the (transformed) range that outputs are mapped to.

    Log odds are what they are: 1 and 0.
    """
    if not isinstance(outcome, Continuous):
        return 1.0, 0.0
    low, high = transform(outcome, np.array(outcome.range))
    return float(high - low) / 2.0, float(high + low) / 2.0


def to_natural(study: Study, encoding: Encoding, weights: Vector) -> NaturalModel:
    """Return a model's weights, shape (d,), in natural units."""
    network = build_network(study, encoding)
    refuse_misfit(network, weights)
    layers, columns = cut(network, weights), NaturalColumns(encoding)
    half, middle = outcome_scale(study.outcome)
    outputs = layers.baseline * encoding.intercept
    if not layers.hidden:
        first, gained = columns.per_unit(layers.last[None, :])
        intercepts = half * (outputs + gained[0]) + middle
        return NaturalModel(half * first, np.zeros(1), (), np.zeros(0), intercepts)
    (read, biases), *deeper = layers.hidden
    first, gained = columns.per_unit(read)
    return NaturalModel(
        first, biases + gained, tuple(deeper), half * layers.last, half * outputs + middle
    )


def to_weights(study: Study, encoding: Encoding, model: NaturalModel) -> Vector:
    """Return the weights, shape (d,), of a model in natural units: the inverse of `to_natural`."""
    network = build_network(study, encoding)
    weights = np.zeros(weight_count(network))
    layers, columns = cut(network, weights), NaturalColumns(encoding)
    half, middle = outcome_scale(study.outcome)
    outputs = (model.intercepts - middle) / half
    if not layers.hidden:
        first, gained = columns.per_encoded(model.first / half)
        layers.last[:], outputs = first[0], outputs - gained[0]
    else:
        first, gained = columns.per_encoded(model.first)
        hidden = [(first, model.biases - gained), *model.deeper]
        for (matrix, bias), (given, constants) in zip(layers.hidden, hidden, strict=True):
            matrix[:], bias[:] = given, constants
        layers.last[:] = model.last / half
    layers.baseline[:] = outputs / encoding.intercept
    return weights
