"""The public typical patient of a study, against whom reasons are given.

Nobody has counted patients for it: it is a guess that the manifest alone makes, and is named so
wherever it is shown. Every number is at the middle of its public range, ordered levels are at
theirs, no level of a vocabulary counts more than another, genotypes are two reference alleles
(of an HLA gene: none that is listed), nothing is missing, and no hospital of the roster is meant.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from polyclinic_common.data.columns import feature_names
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.score_head import Vector
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

NO_HOSPITAL = "no hospital of the study"


def typical_patient(encoding: Encoding) -> Vector:
    """Return the public typical patient as an encoded row, shape (width,)."""
    site = encoding.study.cohort.site
    blocks = [
        np.zeros(len(feature_names(feature))) if feature.name == site else _typical(feature)
        for feature in encoding.features
    ]
    return np.concatenate([*blocks, [1.0]]) / encoding.row_scale


def typical_words(encoding: Encoding) -> tuple[str, ...]:
    """Say of every feature of an encoding what the public typical patient has."""
    site = encoding.study.cohort.site
    return tuple(
        NO_HOSPITAL if feature.name == site else _words(feature) for feature in encoding.features
    )


@singledispatch
def _typical(feature: Feature) -> Vector:
    """Return the typical patient's columns of a feature, before rows are divided by their scale."""
    raise TypeError(type(feature).__name__)


@_typical.register
def _(feature: Numeric | Ordinal | Diplotype | Hla | Panel) -> Vector:
    return np.zeros(len(feature_names(feature)))


@_typical.register
def _(feature: Categorical) -> Vector:
    share = 1.0 / len(feature.levels)
    return np.append(np.full(len(feature.levels), share), 0.0)


@_typical.register
def _(feature: Snp) -> Vector:  # noqa: ARG001
    return np.array([-1.0, 0.0])


@singledispatch
def _words(feature: Feature) -> str:
    """Say what the typical patient has."""
    raise TypeError(type(feature).__name__)


@_words.register
def _(feature: Numeric) -> str:
    low, high = feature.range
    return f"{(low + high) / 2.0:.6g} {feature.unit}"


@_words.register
def _(feature: Ordinal) -> str:  # noqa: ARG001
    return "the middle level"


@_words.register
def _(feature: Categorical) -> str:  # noqa: ARG001
    return "all levels alike"


@_words.register
def _(feature: Snp | Diplotype) -> str:
    return f"{feature.reference}/{feature.reference}"


@_words.register
def _(feature: Hla) -> str:  # noqa: ARG001
    return "no listed allele"


@_words.register
def _(feature: Panel) -> str:
    low, high = feature.range
    return f"{(low + high) / 2.0:.6g} {feature.unit} throughout"
