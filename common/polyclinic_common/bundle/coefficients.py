r"""Coefficients of a released linear model, each with what the privacy noise alone can do to it.

With at most :math:`\sigma` of noise in every encoded weight and in every direction
(:attr:`polyclinic_common.bundle.contents.Evaluation.weight_deviation`), a coefficient
:math:`c = a^T w` of the released :math:`w = b w_0` has a standard deviation of at most

.. math:: \sqrt{(b \sigma \lVert a \rVert)^2 + (c / b)^2 \operatorname{Var} b},

b the slope of calibration and Var b what calibration knows of it, which counts the chance of who
the patients are as well: an interval of ± 1.96 of these is wide rather than narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from polyclinic_common.bundle.bundle import Bundle
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.natural import NaturalColumns
from polyclinic_common.evaluation.interval import Z
from polyclinic_common.models.coefficients import intercept_names, rows_of, scale_of
from polyclinic_common.models.natural import outcome_scale
from polyclinic_common.models.score_head import Vector


@dataclass(frozen=True)
class Coefficient:
    """A coefficient in natural units.

    Attributes
    ----------
    name : str
        The encoded column.
    value : float
        What one more of its unit adds.
    unit : str
        What it is added to, and per what.
    low, high : float or None
        Interval that the noise alone causes, 95 % or more; None where it is not known.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None


def coefficients_of(bundle: Bundle) -> tuple[Coefficient, ...]:
    """Return the coefficients of a bundle's model; none where it is not linear."""
    study, encoding = bundle.study, Encoding(bundle.study)
    if study.model.kind != "linear":
        return ()
    rows, scale = rows_of(study, encoding, bundle.model.weights), scale_of(study.outcome)
    constants = len(intercept_names(study.outcome))
    halves = _halves(bundle, encoding, np.array([row.coefficient for row in rows[constants:]]))
    known = [Coefficient(row.name, row.coefficient, scale) for row in rows[:constants]]
    for row, half in zip(rows[constants:], halves, strict=True):
        unit = f"{scale} per {row.unit}" if row.unit else scale
        ends = (None, None) if half is None else (row.coefficient - half, row.coefficient + half)
        known.append(Coefficient(row.name, row.coefficient, unit, *ends))
    return tuple(known)


def _halves(bundle: Bundle, encoding: Encoding, values: Vector) -> list[float | None]:
    """Return half the width of every interval."""
    deviation = bundle.evaluation.weight_deviation
    if deviation is None:
        return [None] * len(values)
    slope, variance = _slope(bundle)
    stretch = outcome_scale(bundle.study.outcome)[0] * _norms(encoding)
    spread = np.hypot(slope * deviation * stretch, values / slope * math.sqrt(variance))
    return [float(Z * each) for each in spread]


def _slope(bundle: Bundle) -> tuple[float, float]:
    """Return the slope that calibration applied, and its variance."""
    model = bundle.model
    if model.level_and_slope is None or model.precision is None:
        return 1.0, 0.0
    return float(model.level_and_slope[1]), float(np.linalg.inv(model.precision)[1, 1])


def _norms(encoding: Encoding) -> Vector:
    """Return the norm of the linear form that gives each coefficient from encoded weights."""
    columns = NaturalColumns(encoding)
    squares = np.square(columns.scale)
    squares[columns.missing] += np.square(columns.offset[columns.valued])
    return np.asarray(np.sqrt(squares) / columns.row_scale)
