"""Whose columns are whose: the columns of two studies matched by name, in natural units.

A coefficient in natural units means the same whatever the public range, the order of columns or
their number; what is left is another unit, other levels, or another allele that is counted. Where
``old value = factor * new value + shift`` links two columns of one name, a linear form is carried
over exactly; where nothing does, the start is refused. Beyond a range values are clamped: a form
is the same for values inside both ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.natural import NaturalColumn, NaturalColumns
from polyclinic_common.data.units import canonical_unit, conversions_to
from polyclinic_common.errors import Code, ModelError, Problem
from polyclinic_common.models.score_head import Matrix, Vector
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

SAME = (1.0, 0.0)
ABSENT = -1
Link = tuple[float, float]


@dataclass(frozen=True)
class Matching:
    """Columns of a study, each with the column of another that it takes coefficients from.

    Attributes
    ----------
    source : array of shape (p,)
        Place of the other study's column; -1 where there is none.
    factor, shift : array of shape (p,)
        ``other value = factor * own value + shift``.
    new, gone : tuple of str
        What only this study has, and only the other: features, or columns of a shared feature.
    converted : tuple of str
        Features whose unit, levels or counted allele differ.
    """

    columns: NaturalColumns
    source: NDArray[np.int64]
    factor: Vector
    shift: Vector
    new: tuple[str, ...]
    gone: tuple[str, ...]
    converted: tuple[str, ...]

    def carry(self, first: Matrix) -> tuple[Matrix, Vector]:
        """Carry forms on the other study's columns, shape (f, q), over to this study's.

        Returns
        -------
        array of shape (f, p), array of shape (f,)
            The coefficients, and the constants that the forms gain.
        """
        taken = np.where(self.source == ABSENT, 0.0, first[:, self.source])
        gained = taken * self.shift
        carried = taken * self.factor
        valued, missing = self.columns.valued, self.columns.missing
        carried[:, missing] -= gained[:, valued]
        return carried, gained.sum(axis=1)


def match_columns(
    own: NaturalColumns,
    other: NaturalColumns,
    features: tuple[Feature, ...],
    others: tuple[Feature, ...],
) -> Matching:
    """Match the columns of a study, `own`, with those of another by feature and name.

    Parameters
    ----------
    features, others : tuple of Feature
        The features behind the columns.

    Raises
    ------
    ModelError
        M003 if columns of one name cannot be converted; one problem a feature.
    """
    before = {feature.name: feature for feature in others}
    links, problems = dict[str, Link](), list[Problem]()
    for feature in features:
        if feature.name in before:
            try:
                links[feature.name] = link(feature, before[feature.name])
            except UnlikeError as error:
                problems.append(Problem(feature.name, f"{error}.", "Rename it in the study."))
    if problems:
        raise ModelError(
            Code.MODEL_COLUMN,
            "Columns of the start and of the study share a name and cannot be converted.",
            "Start from a model of the same columns, or give them names of their own.",
            problems,
        )
    places = {(c.feature, c.name): place for place, c in enumerate(other.columns)}
    source = [places.get((column.feature, column.name), ABSENT) for column in own.columns]
    found = [links.get(column.feature, SAME) for column in own.columns]
    linked = np.full((len(found), 2), SAME)
    linked[own.valued] = np.array(found)[own.valued]  # indicators are 0 and 1 whatever the unit
    return Matching(
        own,
        np.array(source, dtype=np.int64),
        linked[:, 0],
        linked[:, 1],
        lacking(own.columns, other.columns),
        lacking(other.columns, own.columns),
        tuple(name for name, found in links.items() if found != SAME),
    )


def lacking(these: Sequence[NaturalColumn], those: Sequence[NaturalColumn]) -> tuple[str, ...]:
    """Name what only `these` have: a feature once, and the columns of a shared feature."""
    known = {(column.feature, column.name) for column in those}
    shared = {column.feature for column in those}
    names = [
        column.name if column.feature in shared else column.feature
        for column in these
        if (column.feature, column.name) not in known
    ]
    return tuple(dict.fromkeys(names))


class UnlikeError(Exception):
    """Two features of one name that nothing converts; the text says why."""


def link(feature: Feature, other: Feature) -> Link:
    """Return (factor, shift) with ``other value = factor * value + shift``.

    Raises
    ------
    UnlikeError
        If there is none.
    """
    if feature.kind != other.kind:
        raise UnlikeError(f"It is {other.kind} in the start and {feature.kind} in the study")
    return _link(feature, other)


@singledispatch
def _link(feature: Feature, other: Feature) -> Link:  # noqa: ARG001
    raise TypeError(type(feature).__name__)


@_link.register
def _(feature: Numeric, other: Numeric) -> Link:
    factor, shift = unit_link(feature.name, feature.unit, other.unit)
    ends = [factor * end + shift for end in feature.range]
    if max(ends) <= other.range[0] or min(ends) >= other.range[1]:
        raise UnlikeError(
            f"Its range was {other.range[0]:g} to {other.range[1]:g} {other.unit} and is now apart"
        )
    return factor, shift


def unit_link(name: str, unit: str, other: str) -> Link:
    """Return the conversion from `unit` to `other`.

    Raises
    ------
    UnlikeError
        If none is known.
    """
    if canonical_unit(unit) == canonical_unit(other):
        return SAME
    for conversion in conversions_to(other, name):
        if conversion.found == canonical_unit(unit):
            return conversion.factor, conversion.offset
    raise UnlikeError(f"Its unit is {other!r} in the start and {unit!r} in the study")


@_link.register
def _(feature: Ordinal, other: Ordinal) -> Link:
    """Levels added or left out at either end shift the count of steps."""
    for shorter, longer, sign in (
        (feature.levels, other.levels, 1.0),
        (other.levels, feature.levels, -1.0),
    ):
        for first in range(len(longer) - len(shorter) + 1):
            if longer[first : first + len(shorter)] == shorter:
                return 1.0, sign * first
    raise UnlikeError("Its levels are others, or in another order")


@_link.register
def _(feature: Categorical, other: Categorical) -> Link:  # noqa: ARG001
    return SAME


@_link.register
def _(feature: Snp, other: Snp) -> Link:
    alleles, others = (feature.reference, feature.effect), (other.reference, other.effect)
    if alleles == others:
        return SAME
    if alleles == others[::-1]:
        return -1.0, 2.0
    raise UnlikeError(f"Its alleles were {'/'.join(others)} and are {'/'.join(alleles)}")


@_link.register
def _(feature: Diplotype, other: Diplotype) -> Link:
    if feature.reference != other.reference:
        raise UnlikeError(f"Its reference was {other.reference} and is {feature.reference}")
    return SAME


@_link.register
def _(feature: Hla, other: Hla) -> Link:
    if feature.gene != other.gene:
        raise UnlikeError(f"Its gene was {other.gene} and is {feature.gene}")
    return SAME


@_link.register
def _(feature: Panel, other: Panel) -> Link:
    """A missing value counts as the middle of the range, and missing ones as a share of all."""
    order = sorted if feature.projection is None else tuple
    same = (
        order(feature.columns) == order(other.columns)
        and feature.projection == other.projection
        and feature.range == other.range
        and canonical_unit(feature.unit) == canonical_unit(other.unit)
    )
    if not same:
        raise UnlikeError("It is a panel of other columns, another range, unit or projection")
    return SAME
