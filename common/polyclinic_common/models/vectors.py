"""Weights on disk: safetensors, bound to the study they were made for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.files import write_atomically
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Vector, refuse_misfit
from polyclinic_common.study.manifest import Study

LEVEL_AND_SLOPE, PRECISION = "level_and_slope", "precision"


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


@dataclass(frozen=True)
class SavedModel:
    """A model as it was saved.

    Attributes
    ----------
    weights : array of shape (d,)
        Its weights.
    study_id : str
        The study it was made for.
    study : Study or None
        That study; None in files of earlier versions, which held its name and hash alone.
    level_and_slope : array of shape (2,), or None
        What calibration after training applied to the score; None where there was none.
    precision : array of shape (2, 2), or None
        How sure these two are.
    """

    weights: Vector
    study_id: str
    study: Study | None
    level_and_slope: Vector | None = None
    precision: Matrix | None = None


def save_model(
    path: Path, study: Study, weights: Vector, calibrated: tuple[Vector, Matrix] | None = None
) -> None:
    """Write a study's model, and the study: it says what the weights mean.

    Parameters
    ----------
    calibrated : pair of arrays of shape (2,) and (2, 2), optional
        Level and slope that calibration applied, and their precision.
    """
    header = {"study": study.id, "study_hash": study.hash(), "manifest": study.model_dump_json()}
    vectors = {"weights": weights}
    if calibrated is not None:
        vectors[LEVEL_AND_SLOPE], vectors[PRECISION] = calibrated
    save_vectors(path, vectors, header)


def load_model(path: Path) -> SavedModel:
    """Read what `save_model` wrote.

    Raises
    ------
    ModelError
        M001 if the file cannot be read, holds no model, or its study is none.
    """
    vectors, header = load_vectors(path)
    manifest = header.get("manifest")
    try:
        study = None if manifest is None else Study.model_validate_json(manifest)
        weights = vectors["weights"]
    except (ValidationError, KeyError) as error:
        raise ModelError(
            Code.MODEL_UNREADABLE,
            f"The file {path.name} holds no model, or one of another version.",
            "Check the path; write the model again with this version.",
        ) from error
    if study is not None:
        refuse_misfit(build_network(study, Encoding(study)), weights)
    return SavedModel(
        weights,
        header.get("study", ""),
        study,
        vectors.get(LEVEL_AND_SLOPE),
        vectors.get(PRECISION),
    )


def load_coefficients(path: Path, study: Study, encoding: Encoding, start: Vector) -> Vector:
    """Return `start`, shape (d,), with the weights of encoded columns that a JSON file names.

    Raises
    ------
    ModelError
        M001 if the file is no JSON object of numbers, M002 if it does not fit the study.
    """
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
