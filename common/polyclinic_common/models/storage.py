"""Weights on disk: safetensors, bound to the study they were made for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.files import write_atomically
from polyclinic_common.models.network import Vector
from polyclinic_common.study.manifest import Study


def save_vectors(path: Path, vectors: dict[str, Vector], header: dict[str, str]) -> None:
    """Write named float64 vectors and a header of text to `path`, whole or not at all."""
    write_atomically(path, save({k: np.ascontiguousarray(v) for k, v in vectors.items()}, header))


def load_vectors(path: Path) -> tuple[dict[str, Vector], dict[str, str]]:
    """Read what `save_vectors` wrote.

    Raises
    ------
    ModelError
        If the file cannot be read or holds anything but finite float64 vectors.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            vectors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ModelError(
            Code.MODEL_UNREADABLE,
            f"The file {path.name} cannot be read as safetensors.",
            "Check the path; write the file again.",
        ) from error
    for name, vector in vectors.items():
        if vector.dtype != np.float64 or not np.isfinite(vector).all():
            raise ModelError(
                Code.MODEL_UNREADABLE,
                f"The entry {name!r} of {path.name} is not finite float64.",
                "Write the file again.",
            )
    return vectors, header


def save_model(path: Path, study: Study, weights: Vector) -> None:
    """Write the weights of a study's model."""
    save_vectors(path, {"weights": weights}, {"study": study.id, "study_hash": study.hash()})


def warm_start(path: Path, study: Study, encoding: Encoding, start: Vector) -> Vector:
    """Return starting weights taken from `path`, shape (d,).

    A ``.safetensors`` file holds a saved model; a ``.json`` file names coefficients of a linear
    model on the encoded columns, ``{"age": 0.4, ...}``; columns not named keep `start`. A warm
    start fitted on patients of these cohorts is outside the privacy guarantee.
    """
    if path.suffix == ".json":
        return _from_coefficients(path, study, encoding, start)
    vectors, _ = load_vectors(path)
    weights = vectors.get("weights", np.empty(0))
    if weights.shape != start.shape:
        raise ModelError(
            Code.MODEL_SHAPE,
            f"The model in {path.name} has {weights.size} weights, the study needs {start.size}.",
            "Use a model of the same columns, layers and time grid.",
        )
    return weights


def _from_coefficients(path: Path, study: Study, encoding: Encoding, start: Vector) -> Vector:
    try:
        given = json.loads(path.read_text("utf-8"))
        values = {str(name): float(value) for name, value in given.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            Code.MODEL_UNREADABLE,
            f"The coefficients in {path.name} are not a JSON object of numbers.",
            'Write {"column": number, ...}.',
        ) from error
    places = {name: index for index, name in enumerate(encoding.columns[:-1])}
    unknown = sorted(set(values) - set(places))
    if study.model.kind != "linear" or unknown or not np.isfinite(list(values.values())).all():
        raise ModelError(
            Code.MODEL_SHAPE,
            f"The coefficients in {path.name} do not fit the study "
            f"(linear models only; unknown columns: {', '.join(unknown) or 'none'}).",
            "Name encoded columns of a linear model; `polyclinic study show` lists them.",
        )
    weights = start.copy()
    for name, value in values.items():
        weights[places[name]] = value * encoding.row_scale
    return weights
