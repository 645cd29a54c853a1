"""From a table in the contract's columns to the arrays that are trained on.

The encoding uses the manifest alone and treats every row apart: one patient's row depends on
nothing but that patient's values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.columns import Matrix, encode_feature, feature_names, to_unit
from polyclinic_common.data.outcome import read_outcome
from polyclinic_common.errors import Code, DataError
from polyclinic_common.rowwise import exp, log
from polyclinic_common.study.features import Categorical, Feature, Numeric
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Arms, Binary, Continuous, Outcome, Survival

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cohort:
    """Encoded patients.

    Attributes
    ----------
    x : array of shape (n, p), float64
        Encoded features; the last column is the intercept. Every row is divided by `row_scale`.
    y : array of shape (n, K), float64
        Target of each of the K outputs: the transformed outcome on [-1, 1], 0/1, or whether the
        event fell into interval k.
    mask : array of shape (n, K), float64
        1 where the output counts for the patient (outcome known; at risk in interval k), else 0.
    """

    x: Matrix
    y: Matrix
    mask: Matrix

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Cohort:
        """Return the patients that `rows` selects."""
        return Cohort(self.x[rows], self.y[rows], self.mask[rows])

    @staticmethod
    def concatenate(cohorts: list[Cohort]) -> Cohort:
        """Return all patients of `cohorts` as one cohort."""
        return Cohort(
            np.concatenate([c.x for c in cohorts]),
            np.concatenate([c.y for c in cohorts]),
            np.concatenate([c.mask for c in cohorts]),
        )


class Encoding:
    """The fixed map from the contract's columns to arrays, made from the manifest alone."""

    def __init__(self, study: Study):
        self.study = study
        self.features = (*study.cohort.features, *_public_features(study))
        self.columns = (*(n for f in self.features for n in feature_names(f)), "intercept")
        self.row_scale = float(np.sqrt(1.0 + sum(map(_variables, self.features)) / 2.0))

    @property
    def width(self) -> int:
        """Number of columns of `Cohort.x`, the intercept included."""
        return len(self.columns)

    @property
    def intercept(self) -> float:
        """Value of the intercept column: 1 / row scale."""
        return 1.0 / self.row_scale

    @property
    def outputs(self) -> int:
        """Number K of outputs: intervals of the time grid, or 1."""
        outcome = self.study.outcome
        return len(outcome.grid) if isinstance(outcome, Survival) else 1

    def encode(self, frame: pd.DataFrame, site: str) -> Cohort:
        """Encode the patients of one site.

        Parameters
        ----------
        frame : DataFrame of n rows
            A table in the contract's columns; an absent feature counts as missing throughout.
        site : str
            The site's public name, used where the study has a site indicator.

        Raises
        ------
        DataError
            If the site is not in the roster.
        """
        if site not in self.study.roster.sites:
            raise DataError(
                Code.SITE_UNKNOWN,
                f"The site {site!r} is not in the roster of study {self.study.id}.",
                "Correct the site's name or add it to the roster.",
            )
        y, mask = encode_outcome(self.study.outcome, frame)
        return Cohort(self.encode_features(frame, site), y, mask)

    def encode_features(self, frame: pd.DataFrame, site: str | None) -> Matrix:
        """Encode what the model reads of n patients, shape (n, width).

        Parameters
        ----------
        frame : DataFrame of n rows
            A table in the contract's columns; an absent feature counts as missing throughout.
        site : str or None
            The hospital; None is one outside the roster, which no indicator stands for.
        """
        frame = frame.assign(**{self.study.cohort.site: site})
        parts = [encode_feature(feature, frame) for feature in self.features]
        if site is None and self.study.cohort.site_indicator:
            parts[-1][:] = 0.0  # nobody without a hospital was trained on: that weight is noise
        return np.column_stack([*parts, np.ones(len(frame))]) / self.row_scale

    def start(self) -> Matrix:
        """Return the output logits (or transformed value) training starts from, shape (K,)."""
        return start_logits(self.study.outcome)


def _public_features(study: Study) -> tuple[Feature, ...]:
    """Treatment and site indicator, declared as the features they are encoded as."""
    extra: list[Feature] = []
    treatment = study.treatment
    if isinstance(treatment, Arms):
        extra.append(
            Categorical(
                name=treatment.column,
                kind="categorical",
                levels=treatment.arms,
                source=treatment.source,
            )
        )
    elif treatment is not None:
        extra.append(
            Numeric(
                name=treatment.column,
                kind="numeric",
                unit=treatment.unit,
                range=treatment.range,
                source=treatment.source,
            )
        )
    if study.cohort.site_indicator:
        extra.append(
            Categorical(
                name=study.cohort.site,
                kind="categorical",
                levels=study.roster.sites,
                source="roster of the study",
            )
        )
    return tuple(extra)


def _variables(feature: Feature) -> int:
    """Count declared variables: a panel counts its columns (after projection, if any)."""
    if feature.kind != "panel":
        return 1
    return feature.projection.width if feature.projection else len(feature.columns)


@singledispatch
def encode_outcome(
    outcome: Outcome,
    frame: pd.DataFrame,  # noqa: ARG001
) -> tuple[Matrix, Matrix]:
    """Return targets and mask, both of shape (n, K); a patient without outcome has mask 0."""
    raise TypeError(type(outcome).__name__)


@encode_outcome.register(Continuous)
def _(outcome: Continuous, frame: pd.DataFrame) -> tuple[Matrix, Matrix]:
    read = read_outcome(outcome, frame)
    values = np.clip(np.where(read.known, read.value, outcome.start), *outcome.range)
    unit = to_unit(transform(outcome, values), _bounds(outcome))
    return np.where(read.known, unit, 0.0)[:, None], read.known[:, None].astype(np.float64)


@encode_outcome.register(Binary)
def _(outcome: Binary, frame: pd.DataFrame) -> tuple[Matrix, Matrix]:
    read = read_outcome(outcome, frame)
    positive = np.where(read.known, read.value, 0.0)[:, None]
    return positive, read.known[:, None].astype(np.float64)


@encode_outcome.register(Survival)
def _(outcome: Survival, frame: pd.DataFrame) -> tuple[Matrix, Matrix]:
    """Discrete-time hazard: an interval counts for patients at risk through it or with the event.

    Tutz and Schmid, Modeling Discrete Time-to-Event Data (2016), section 3.2. A patient censored
    within interval k counts up to k - 1; follow-up after the grid's end is censored there.
    """
    read = read_outcome(outcome, frame)
    time = np.where(read.known, read.value, 0.0)
    interval = np.searchsorted(outcome.grid, time, side="left")[:, None]
    k = np.arange(len(outcome.grid))[None, :]
    event = (k == interval) & (read.event == 1.0)[:, None] & read.known[:, None]
    survived = (k < interval) & read.known[:, None]
    return event.astype(np.float64), (event | survived).astype(np.float64)


def transform(outcome: Continuous, values: Matrix) -> Matrix:
    """Apply the declared transform."""
    if outcome.transform == "sqrt":
        return np.asarray(np.sqrt(values))
    return log(values) if outcome.transform == "log" else values


def inverse_transform(outcome: Continuous, unit: Matrix) -> Matrix:
    """Return outcomes in the declared unit from values on [-1, 1], clamped to the public range."""
    low, high = _bounds(outcome)
    values = np.clip((unit + 1.0) / 2.0 * (high - low) + low, low, high)
    if outcome.transform == "sqrt":
        return values * values
    return exp(values) if outcome.transform == "log" else values


def _bounds(outcome: Continuous) -> tuple[float, float]:
    low, high = transform(outcome, np.array(outcome.range))
    return float(low), float(high)


def start_logits(outcome: Outcome) -> Matrix:
    """Return the public starting point of every output, shape (K,).

    Survival: equal hazards h with (1 - h)^K = event-free share at the end of the grid.
    """
    if isinstance(outcome, Survival):
        survive = outcome.event_free ** (1.0 / len(outcome.grid))
        return np.full(len(outcome.grid), np.log((1.0 - survive) / survive))
    if isinstance(outcome, Binary):
        return np.array([np.log(outcome.base_rate / (1.0 - outcome.base_rate))])
    return to_unit(transform(outcome, np.array([outcome.start])), _bounds(outcome))
