"""Patients of one hospital that a released model was not trained on, and what they say of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.bundle import conformal, observed_rates, venn_abers
from polyclinic_common.bundle.local_calibration import (
    Bins,
    Curves,
    LocalCalibration,
    ObservedShare,
    VennAbers,
    Width,
)
from polyclinic_common.bundle.predictor import Predictor
from polyclinic_common.bundle.refit import refit
from polyclinic_common.data.encoding import encode_outcome
from polyclinic_common.data.holdout import uniform
from polyclinic_common.data.outcome import read_outcome
from polyclinic_common.data.patients import patient_numbers
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.models.predict import Prediction, predict
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, Survival

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Method = Literal["bins", "venn-abers"]


@dataclass(frozen=True)
class LocalPatients:
    """n patients with a known outcome.

    Attributes
    ----------
    numbers : tuple of str
        Their numbers: they decide who fits a level and who an interval, and are kept nowhere.
    x, y, mask : arrays of shape (n, width), (n, K), (n, K)
        As `Cohort`.
    value, event : arrays of shape (n,)
        As `ReadOutcome`.
    """

    numbers: tuple[str, ...]
    x: Floats
    y: Floats
    mask: Floats
    value: Floats
    event: Floats

    def __len__(self) -> int:
        return len(self.value)

    @staticmethod
    def of(predictor: Predictor, frame: pd.DataFrame, rows: NDArray[np.bool_]) -> LocalPatients:
        """Return those of a table's `rows` whose outcome is known.

        Parameters
        ----------
        predictor : Predictor
            The model, as it reads this hospital's patients.
        frame : DataFrame of n rows
            The checked table, in the contract's columns.
        rows : array of shape (n,)
            Whom it was not trained on, and has a number for.
        """
        study, x = predictor.study, predictor.encode(frame)
        seen = read_outcome(study.outcome, frame)
        y, mask = encode_outcome(study.outcome, frame)
        numbers = tuple(map(str, patient_numbers(study, frame)))
        everybody = LocalPatients(numbers, x, y, mask, seen.value, seen.event)
        return everybody.take(np.flatnonzero(rows & seen.known))

    def take(self, rows: NDArray[np.int64]) -> LocalPatients:
        """Return the patients of these rows."""
        return LocalPatients(
            tuple(self.numbers[row] for row in rows),
            self.x[rows],
            self.y[rows],
            self.mask[rows],
            self.value[rows],
            self.event[rows],
        )

    def halves(self) -> tuple[LocalPatients, LocalPatients]:
        """Return two halves, by a hash of the patient numbers: the order of rows says nothing."""
        order = np.argsort([uniform(f"{number}|recalibrated") for number in self.numbers])
        return self.take(order[: len(order) // 2]), self.take(order[len(order) // 2 :])


@dataclass(frozen=True)
class Wanted:
    """What a hospital asks for.

    Attributes
    ----------
    alpha : float
        Intervals are at the level 1 - alpha.
    method : str
        How probabilities get theirs.
    refit : bool
        Whether level and slope are fitted anew.
    """

    alpha: float = 0.1
    method: Method = "bins"
    refit: bool = False


def calibrated(
    digest: str,
    predictor: Predictor,
    patients: LocalPatients,
    wanted: Wanted,
    *,
    held_out: int,
    made: dt.date,
) -> LocalCalibration:
    """Return what a hospital's patients say of a model.

    A level and slope bring numbers nearer to the patients that they were fitted to than to others,
    so that these give no interval: half of the patients fit, the other half bounds. Of groups and
    of Venn-Abers only the order of predictions matters, and that stays as it was.

    Parameters
    ----------
    digest : str
        Names the model.
    held_out : int
        How many patients of the table the study holds out.

    Raises
    ------
    BundleError
        B020 if there are too few patients, B021 if level and slope cannot be fitted.
    """
    study, weights = predictor.study, predictor.weights
    fitting = judging = patients
    if wanted.refit and isinstance(study.outcome, Continuous):
        fitting, judging = patients.halves()
    _require_enough(study, len(patients), len(judging), wanted)
    local = None
    if wanted.refit:
        local = refit(study, weights, fitting.x, fitting.y, fitting.mask)
        weights = local.applied_to(study, weights)
    said = predict(study, predictor.encoding, weights, judging.x)
    return LocalCalibration(
        bundle=digest,
        made=made,
        alpha=wanted.alpha,
        patients=len(judging),
        held_out=held_out,
        hospital=predictor.site,
        refit=local,
        found=_found(study, said, judging, wanted),
    )


def fewest(study: Study, alpha: float) -> int:
    """Return how many patients intervals of a study need at the least."""
    one_group = 0 if isinstance(study.outcome, Continuous) else observed_rates.LEAST_PATIENTS
    return max(conformal.fewest_patients(alpha), one_group)


def _require_enough(study: Study, there: int, judging: int, wanted: Wanted) -> None:
    least = fewest(study, wanted.alpha)
    if judging >= least:
        return
    half = " once half of them fit level and slope" if judging < there else ""
    raise BundleError(
        Code.CALIBRATION_TOO_FEW,
        f"{judging} patients with a known outcome can be used{half}; intervals at "
        f"{1.0 - wanted.alpha:.0%} need {least}.",
        "Come back with more patients that the model was not trained on, or raise --alpha.",
    )


def _found(
    study: Study, said: Prediction, patients: LocalPatients, wanted: Wanted
) -> Width | Bins | VennAbers | Curves:
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        half = conformal.half_width(outcome, said.value, patients.value, wanted.alpha)
        return Width(half_width=half)
    if isinstance(outcome, Survival):
        return _curves(outcome, said.value, patients, wanted.alpha)
    if wanted.method == "venn-abers":
        steps = venn_abers.fit(said.value, patients.value)
        return VennAbers(lower=steps.lower, upper=steps.upper)
    edges = observed_rates.group_edges(said.value)
    group = observed_rates.groups_of(edges, said.value)
    having = np.bincount(group, patients.value).astype(np.int64)
    return Bins(
        edges=edges,
        patients=tuple(np.bincount(group).tolist()),
        having=tuple(having.tolist()),
    )


def _curves(outcome: Survival, risk: Floats, patients: LocalPatients, alpha: float) -> Curves:
    edges = observed_rates.group_edges(risk)
    group = observed_rates.groups_of(edges, risk)
    rows = [np.flatnonzero(group == number) for number in range(len(edges) + 1)]
    found = [
        observed_rates.survival(patients.value[each], patients.event[each], outcome.grid, alpha)
        for each in rows
    ]
    return Curves(
        edges=edges,
        patients=tuple(len(each) for each in rows),
        observed=tuple(
            tuple(None if s is None else ObservedShare(**vars(s)) for s in times) for times in found
        ),
    )
