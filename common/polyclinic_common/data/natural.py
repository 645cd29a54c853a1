"""What an encoded column stands for in the units of its feature: years, copies of an allele, steps.

A known value v of a column is encoded as ``scale * v + offset`` (before rows are divided by their
scale); a missing one as 0, with 1 in the feature's indicator of missing. The columns of a panel
have one indicator together: there a missing value counts as the middle of the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from polyclinic_common.data.columns import Matrix, feature_names
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.study.features import (
    Categorical,
    Diplotype,
    Feature,
    Hla,
    Numeric,
    Ordinal,
    Panel,
    Snp,
)

NO_UNIT = ""
STEP, COPY = "step", "copy"


@dataclass(frozen=True)
class NaturalColumn:
    """An encoded column in the units of its feature.

    Attributes
    ----------
    feature, name : str
        The feature, and the encoded column: unique together.
    unit : str
        What a coefficient is per; empty for indicators.
    scale, offset : float
        A known value v is encoded as ``scale * v + offset``.
    has_missing : bool
        Whether the feature's last column tells that this value is missing.
    """

    feature: str
    name: str
    unit: str = NO_UNIT
    scale: float = 1.0
    offset: float = 0.0
    has_missing: bool = False


class NaturalColumns:
    """The columns of an encoding, intercept left out, in the units of their features."""

    def __init__(self, encoding: Encoding):
        self.row_scale = encoding.row_scale
        self.columns = tuple(c for feature in encoding.features for c in columns_in_units(feature))
        self.scale = np.array([column.scale for column in self.columns])
        self.offset = np.array([column.offset for column in self.columns])
        self.valued = np.flatnonzero([column.has_missing for column in self.columns])
        self.missing = self.valued + 1

    def per_unit(self, weights: Matrix) -> tuple[Matrix, Matrix]:
        """Return coefficients per unit, and what each form gains by the offsets.

        Parameters
        ----------
        weights : array of shape (f, p)
            Weights of f linear forms on the p encoded columns.

        Returns
        -------
        array of shape (f, p), array of shape (f,)
            ``weights @ encoded row == coefficients @ natural row + constant``.
        """
        gained = weights * self.offset / self.row_scale
        coefficients = weights * self.scale / self.row_scale
        coefficients[:, self.missing] -= gained[:, self.valued]
        return coefficients, gained.sum(axis=1)

    def per_encoded(self, coefficients: Matrix) -> tuple[Matrix, Matrix]:
        """Return what `per_unit` takes, and the constants it would give: its inverse."""
        weights = coefficients / self.scale * self.row_scale
        gained = weights * self.offset / self.row_scale
        weights[:, self.missing] += gained[:, self.valued] * self.row_scale
        return weights, gained.sum(axis=1)


@singledispatch
def columns_in_units(feature: Feature) -> list[NaturalColumn]:
    """Return the columns of `feature`, in the order of `feature_names`."""
    raise TypeError(type(feature).__name__)


def _in_range(low: float, high: float) -> tuple[float, float]:
    """Return scale and offset of the map from a range to [-1, 1]."""
    return 2.0 / (high - low), -(high + low) / (high - low)


def _one_value(feature: Feature, unit: str, scale: float, offset: float) -> list[NaturalColumn]:
    value, missing = feature_names(feature)
    return [
        NaturalColumn(feature.name, value, unit, scale, offset, has_missing=True),
        NaturalColumn(feature.name, missing),
    ]


@columns_in_units.register
def _(feature: Numeric) -> list[NaturalColumn]:
    return _one_value(feature, feature.unit, *_in_range(*feature.range))


@columns_in_units.register
def _(feature: Ordinal) -> list[NaturalColumn]:
    """Count steps from the first level."""
    return _one_value(feature, STEP, *_in_range(0.0, len(feature.levels) - 1.0))


@columns_in_units.register
def _(feature: Snp) -> list[NaturalColumn]:
    return _one_value(feature, f"{COPY} of {feature.effect}", 1.0, -1.0)


@columns_in_units.register
def _(feature: Categorical) -> list[NaturalColumn]:
    return [NaturalColumn(feature.name, name) for name in feature_names(feature)]


@columns_in_units.register
def _(feature: Diplotype | Hla) -> list[NaturalColumn]:
    *alleles, missing = feature_names(feature)
    copies = [NaturalColumn(feature.name, name, COPY) for name in alleles]
    return [*copies, NaturalColumn(feature.name, missing)]


@columns_in_units.register
def _(feature: Panel) -> list[NaturalColumn]:
    *values, missing = feature_names(feature)
    scale, offset, unit = *_in_range(*feature.range), feature.unit
    if feature.projection is not None:
        scale, offset, unit = 1.0, 0.0, NO_UNIT
    columns = [NaturalColumn(feature.name, name, unit, scale, offset) for name in values]
    return [*columns, NaturalColumn(feature.name, missing)]
