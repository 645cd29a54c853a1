"""What a model reads of a patient, in words: an encoded row turned back into values.

A number outside its public range is read as the end of the range, and an unknown word as missing:
so they stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import numpy as np

from polyclinic_common.bundle.typical import NO_HOSPITAL
from polyclinic_common.data.columns import feature_names
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.columns import _labels_of
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

MISSING = "missing"


def feature_slices(encoding: Encoding) -> tuple[slice, ...]:
    """Return the encoded columns of every feature."""
    ends = np.cumsum([len(feature_names(feature)) for feature in encoding.features]).tolist()
    return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))


def values_in_words(encoding: Encoding, row: Vector) -> tuple[str, ...]:
    """Say of every feature what the model reads of an encoded row, shape (width,)."""
    study = encoding.study
    return tuple(
        NO_HOSPITAL
        if feature.name == study.cohort.site and not row[part][:-1].any()
        else _words(feature, row[part] * encoding.row_scale, _labels_of(study, feature.name))
        for feature, part in zip(encoding.features, feature_slices(encoding), strict=True)
    )


def _number(unit: float, bounds: tuple[float, float]) -> str:
    """Return a number of [-1, 1] in a range, as it was typed: rounded to nine digits."""
    low, high = bounds
    return f"{(unit + 1.0) / 2.0 * (high - low) + low:.9g}"


@singledispatch
def _words(feature: Feature, block: Vector, labels: Mapping[str, str]) -> str:  # noqa: ARG001
    """Say what stands in a feature's columns `block`."""
    raise TypeError(type(feature).__name__)


@_words.register
def _(feature: Numeric, block: Vector, labels: Mapping[str, str]) -> str:  # noqa: ARG001
    return MISSING if block[-1] > 0.5 else f"{_number(block[0], feature.range)} {feature.unit}"


@_words.register
def _(feature: Ordinal, block: Vector, labels: Mapping[str, str]) -> str:
    if block[-1] > 0.5:
        return MISSING
    level = feature.levels[round((block[0] + 1.0) / 2.0 * (len(feature.levels) - 1))]
    return labels.get(level, level)


@_words.register
def _(feature: Categorical, block: Vector, labels: Mapping[str, str]) -> str:
    level = (*feature.levels, MISSING)[int(np.argmax(block))]
    return labels.get(level, level)


@_words.register
def _(feature: Snp, block: Vector, labels: Mapping[str, str]) -> str:  # noqa: ARG001
    if block[-1] > 0.5:
        return MISSING
    copies = round(block[0] + 1.0)
    return "/".join([feature.reference] * (2 - copies) + [feature.effect] * copies)


@_words.register
def _(feature: Diplotype | Hla, block: Vector, labels: Mapping[str, str]) -> str:  # noqa: ARG001
    if block[-1] > 0.5:
        return MISSING
    listed = [
        allele
        for allele, copies in zip(feature.alleles, block[:-1], strict=True)
        for _ in range(round(copies))
    ]
    other = feature.reference if isinstance(feature, Diplotype) else "other"
    return "/".join([other] * (2 - len(listed)) + listed)


@_words.register
def _(feature: Panel, block: Vector, labels: Mapping[str, str]) -> str:  # noqa: ARG001
    count = len(feature.columns)
    return f"{count - round(block[-1] * count)} of {count} values"
