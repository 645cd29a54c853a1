"""Where training starts from: a model of this study or of another, or given coefficients.

What a start and a study share by name goes on where it stood, what is new starts at zero, and
what is gone is named. A start fitted on patients of these cohorts is outside the privacy guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.natural import NaturalColumns
from polyclinic_common.data.units import canonical_unit
from polyclinic_common.errors import Code, ModelError
from polyclinic_common.models.coefficients import from_rows, read_rows
from polyclinic_common.models.head import head_of
from polyclinic_common.models.matching import match_columns
from polyclinic_common.models.natural import to_natural, to_weights
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.models.vectors import SavedModel, load_coefficients, load_model
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Outcome, Survival
from polyclinic_common.text import plain

SHOWN = 12


@dataclass(frozen=True)
class Start:
    """Starting weights, and how they came to be.

    Attributes
    ----------
    weights : array of shape (d,)
        The weights.
    new, gone, converted : tuple of str
        Columns that start at zero, columns of the start that the study lacks, and columns in
        another unit, of other levels or of another allele.
    """

    weights: Vector
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()

    def words(self) -> tuple[str, ...]:
        """Say what did not meet."""
        parts = (
            ("new, started at zero", self.new),
            ("gone, left out", self.gone),
            ("converted", self.converted),
        )
        return tuple(f"{what}: {_listed(names)}" for what, names in parts if names)


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(map(plain, names[:SHOWN])) + (f" and {more} more" if more > 0 else "")


def read_start(path: Path, study: Study, encoding: Encoding, start: Vector) -> Start:
    """Return starting weights taken from `path`.

    Parameters
    ----------
    path : Path
        ``.csv``: coefficients in natural units (:mod:`polyclinic_common.models.coefficients`).
        ``.json``: weights of encoded columns, ``{"age": 0.4, ...}``; columns not named keep
        `start`. Else a saved model.
    start : array of shape (d,)
        The public starting point.

    Raises
    ------
    ModelError
        M001 if the file cannot be read, M002 if it is of another kind of model or outcome, M003
        if columns of one name cannot be converted.
    """
    kind = path.suffix.lower()
    if kind == ".json":
        found = Start(load_coefficients(path, study, encoding, start))
    elif kind == ".csv":
        table = from_rows(study, encoding, read_rows(path))
        weights = to_weights(study, encoding, table.model)
        found = Start(weights, table.new, table.gone, table.converted)
    else:
        found = _from_model(path, load_model(path), study, encoding, start)
    if not np.all(np.abs(found.weights) <= LARGEST_WEIGHT):
        raise ModelError(
            Code.MODEL_SHAPE,
            f"The start in {path.name} has weights beyond {LARGEST_WEIGHT:g}, which no round may.",
            "Check its coefficients and their units.",
        )
    return found


def _from_model(
    path: Path, saved: SavedModel, study: Study, encoding: Encoding, start: Vector
) -> Start:
    if saved.study is None:
        return Start(_by_place(path, saved, study, start))
    other = saved.study
    difference = _difference(study, other)
    if difference is not None:
        raise ModelError(
            Code.MODEL_SHAPE,
            f"The model in {path.name} is of another kind than the study's: {difference}.",
            "Use a model of the same outcome, time grid and hidden layers.",
        )
    before = Encoding(other)
    own, others = NaturalColumns(encoding), NaturalColumns(before)
    matching = match_columns(own, others, encoding.features, before.features)
    model = to_natural(other, before, saved.weights)
    carried = model.shifted(*matching.carry(model.first))
    weights = to_weights(study, encoding, carried)
    return Start(weights, matching.new, matching.gone, matching.converted)


def _by_place(path: Path, saved: SavedModel, study: Study, start: Vector) -> Vector:
    """Return weights of a file that does not hold its study: of this very study only."""
    if saved.study_id != study.id or saved.weights.shape != start.shape:
        raise ModelError(
            Code.MODEL_SHAPE,
            f"The model in {path.name} does not hold its study, and is none of this study's shape.",
            "Train it again with this version, or use a model of this study.",
        )
    return saved.weights


def _difference(study: Study, other: Study) -> str | None:
    """Return what makes two studies' models of different kinds; None if nothing does."""
    if study.model.hidden != other.model.hidden:
        return "other hidden layers"
    if not (head_of(study).as_encoded and head_of(other).as_encoded):
        return "its score does not read columns as they are"
    return _outcome_difference(study.outcome, other.outcome)


def _outcome_difference(outcome: Outcome, other: Outcome) -> str | None:
    same = False
    if isinstance(outcome, Continuous) and isinstance(other, Continuous):
        if canonical_unit(outcome.unit) != canonical_unit(other.unit):
            return f"the outcome was in {other.unit} and is in {outcome.unit}"
        same = (outcome.column, outcome.transform) == (other.column, other.transform)
    elif isinstance(outcome, Binary) and isinstance(other, Binary):
        answers = (outcome.positive, outcome.negative)
        same = (outcome.column, answers) == (other.column, (other.positive, other.negative))
    elif isinstance(outcome, Survival) and isinstance(other, Survival):
        if (outcome.grid, outcome.unit) != (other.grid, other.unit):
            return "another time grid"
        same = (outcome.event, outcome.occurred) == (other.event, other.occurred)
    return None if same else f"{_told(other)} instead of {_told(outcome)}"


def _told(outcome: Outcome) -> str:
    if isinstance(outcome, Continuous):
        scale = "" if outcome.transform == "none" else f" on the {outcome.transform} scale"
        return f"{outcome.column}{scale} (continuous)"
    if isinstance(outcome, Binary):
        return f"{outcome.column} = {outcome.positive} (binary)"
    return f"time until {outcome.event} = {outcome.occurred} (survival)"
