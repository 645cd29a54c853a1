"""The weights of a released model, and what calibration did to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Vector, refuse_misfit
from polyclinic_common.models.vectors import LEVEL_AND_SLOPE, PRECISION
from polyclinic_common.study.manifest import Study

_WEIGHTS = "weights"


@dataclass(frozen=True)
class SavedWeights:
    """A model.

    Attributes
    ----------
    weights : array of shape (d,)
        Its weights, as they predict.
    level_and_slope : array of shape (2,), or None
        What calibration after training applied to its score; None where there was none.
    precision : array of shape (2, 2), or None
        How sure these two are.
    """

    weights: Vector
    level_and_slope: Vector | None = None
    precision: Matrix | None = None

    def to_bytes(self) -> bytes:
        """Return it in the format safetensors."""
        vectors = {
            _WEIGHTS: self.weights,
            LEVEL_AND_SLOPE: self.level_and_slope,
            PRECISION: self.precision,
        }
        return bytes(
            save({k: np.ascontiguousarray(v) for k, v in vectors.items() if v is not None})
        )

    @staticmethod
    def read(content: bytes, study: Study) -> SavedWeights:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ModelError
            M001 if it is something else, M002 if it is no model of `study`.
        """
        try:
            vectors: dict[str, NDArray[np.float64]] = load(content)
        except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a type numpy lacks
            raise _unreadable() from error
        shapes = {name: vector.shape for name, vector in vectors.items()}
        calibrated = {LEVEL_AND_SLOPE: (2,), PRECISION: (2, 2)}
        rest = {name: shape for name, shape in shapes.items() if name != _WEIGHTS}
        finite = all(v.dtype == np.float64 and np.isfinite(v).all() for v in vectors.values())
        if _WEIGHTS not in shapes or rest not in ({}, calibrated) or not finite:
            raise _unreadable()
        if rest and not _is_precision(vectors[PRECISION], vectors[LEVEL_AND_SLOPE]):
            raise _unreadable()
        refuse_misfit(build_network(study, Encoding(study)), vectors[_WEIGHTS])
        return SavedWeights(vectors[_WEIGHTS], vectors.get(LEVEL_AND_SLOPE), vectors.get(PRECISION))


def _is_precision(precision: Matrix, level_and_slope: Vector) -> bool:
    """Say whether a matrix is one, and the slope that goes with it one that can be divided by."""
    positive = np.linalg.eigvalsh(precision).min() > 0.0
    return bool(positive and np.array_equal(precision, precision.T) and level_and_slope[1] != 0.0)


def _unreadable() -> ModelError:
    return ModelError(
        Code.MODEL_UNREADABLE,
        "The weights of a released model cannot be read.",
        "Get the file anew from whoever released it.",
    )
