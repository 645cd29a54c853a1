"""From one declared feature and a column of values to numbers in [-1, 1], row by row.

A copy of an allele is one step in both kinds of genotype: -1, 0, 1 for a SNP; 0, 1, 2 for every
star allele, most of which are rare.

Every encoding is total: whatever stands in a cell gives a finite row. Missing is an indicator of
its own (the last column of every feature), out of range is clamped, an unknown word is missing.
"""

from __future__ import annotations

import hashlib
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.genotype import diplotype_copies, hla_copies, snp_copies
from polyclinic_common.data.values import as_number, as_words, column_or_missing
from polyclinic_common.rowwise import weighted_sums
from polyclinic_common.study.features import (
    Categorical,
    Diplotype,
    Feature,
    Hla,
    Numeric,
    Ordinal,
    Panel,
    Projection,
    Snp,
)

if TYPE_CHECKING:
    import pandas as pd

Matrix = NDArray[np.float64]
ROUNDING = 1e-9  # relative to the greater bound


def inside(values: Matrix, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    """Say which values lie in a public range; the last bits of a conversion do not count."""
    low, high = bounds
    slack = ROUNDING * max(abs(bound) for bound in bounds if np.isfinite(bound))
    return (values >= low - slack) & (values <= high + slack)


def to_unit(values: Matrix, bounds: tuple[float, float]) -> Matrix:
    """Clamp to a public range and map it to [-1, 1]; NaN stays NaN."""
    low, high = bounds
    return 2.0 * (np.clip(values, low, high) - low) / (high - low) - 1.0


def indicators(values: pd.Series, levels: tuple[str, ...]) -> Matrix:
    """Return indicators of `levels` and, last, of a missing or unknown word; shape (n, L + 1)."""
    import pandas as pd  # noqa: PLC0415

    codes = pd.Categorical(as_words(values, levels), categories=list(levels)).codes.astype(np.int64)
    rows = np.where(codes < 0, len(levels), codes)
    return np.asarray(np.eye(len(levels) + 1)[rows], dtype=np.float64)


def _with_missing(values: Matrix) -> Matrix:
    """Replace rows with a NaN by zeros and append their indicator; (n, k) -> (n, k + 1)."""
    missing: NDArray[np.bool_] = np.any(np.isnan(values), axis=1)
    known = np.where(missing[:, None], 0.0, values)
    return np.asarray(np.column_stack([known, missing]), dtype=np.float64)


def projection_matrix(width: int, projection: Projection) -> Matrix:
    """Return the public sign matrix of shape (width, projection.width), entries +-1.

    Signs are the bits of SHAKE-256 of a label, the sizes and the seed, so that any program can
    rebuild it. Achlioptas, Database-friendly random projections (2003), equation 1.
    """
    size = width * projection.width
    label = f"polyclinic projection 1|{width}|{projection.width}|{projection.seed}"
    stream = hashlib.shake_256(label.encode()).digest((size + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8))[:size]
    return np.asarray(2.0 * bits - 1.0, dtype=np.float64).reshape(width, projection.width)


@singledispatch
def encode_feature(feature: Feature, frame: pd.DataFrame) -> Matrix:  # noqa: ARG001
    """Encode `feature` from the contract's columns in `frame`; shape (n, width of the feature)."""
    raise TypeError(type(feature).__name__)


@encode_feature.register(Numeric)
def _(feature: Numeric, frame: pd.DataFrame) -> Matrix:
    numbers = as_number(column_or_missing(frame, feature.name))
    return _with_missing(to_unit(numbers, feature.range)[:, None])


@encode_feature.register(Ordinal)
def _(feature: Ordinal, frame: pd.DataFrame) -> Matrix:
    known = indicators(column_or_missing(frame, feature.name), feature.levels)
    steps = np.append(np.linspace(-1.0, 1.0, len(feature.levels)), 0.0)
    return np.column_stack([steps[known.argmax(axis=1)], known[:, -1]])


@encode_feature.register(Categorical)
def _(feature: Categorical, frame: pd.DataFrame) -> Matrix:
    return indicators(column_or_missing(frame, feature.name), feature.levels)


@encode_feature.register(Snp)
def _(feature: Snp, frame: pd.DataFrame) -> Matrix:
    return _with_missing(snp_copies(feature, column_or_missing(frame, feature.name)) - 1.0)


@encode_feature.register(Diplotype)
def _(feature: Diplotype, frame: pd.DataFrame) -> Matrix:
    return _with_missing(diplotype_copies(feature, column_or_missing(frame, feature.name)))


@encode_feature.register(Hla)
def _(feature: Hla, frame: pd.DataFrame) -> Matrix:
    return _with_missing(hla_copies(feature, column_or_missing(frame, feature.name)))


@encode_feature.register(Panel)
def _(feature: Panel, frame: pd.DataFrame) -> Matrix:
    columns = [as_number(column_or_missing(frame, column)) for column in feature.columns]
    values = to_unit(np.column_stack(columns), feature.range)
    missing_share = np.count_nonzero(np.isnan(values), axis=1) / len(feature.columns)
    values = np.nan_to_num(values, nan=0.0)
    if feature.projection is not None:
        signs = projection_matrix(len(feature.columns), feature.projection)
        projected = weighted_sums(values, signs.T) / np.sqrt(len(feature.columns))
        values = np.clip(projected, -1.0, 1.0)
    return np.column_stack([values, missing_share])


@singledispatch
def feature_names(feature: Feature) -> list[str]:
    """Return the names of the columns that `encode_feature` gives."""
    raise TypeError(type(feature).__name__)


@feature_names.register(Numeric)
@feature_names.register(Ordinal)
@feature_names.register(Snp)
def _(feature: Numeric | Ordinal | Snp) -> list[str]:
    return [feature.name, f"{feature.name} missing"]


@feature_names.register
def _(feature: Categorical) -> list[str]:
    return [f"{feature.name} = {level}" for level in (*feature.levels, "missing")]


@feature_names.register
def _(feature: Diplotype | Hla) -> list[str]:
    return [f"{feature.name} {a}" for a in feature.alleles] + [f"{feature.name} missing"]


@feature_names.register
def _(feature: Panel) -> list[str]:
    names = [f"{feature.name} {column}" for column in feature.columns]
    if feature.projection is not None:
        names = [f"{feature.name} projection {k + 1}" for k in range(feature.projection.width)]
    return [*names, f"{feature.name} missing share"]
