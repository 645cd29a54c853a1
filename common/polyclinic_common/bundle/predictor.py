"""From a hospital's patients to predictions, with what has to be said about each of them.

Encoding and model are those of training. One patient never changes another's prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.bundle.flags import Flag, flag_rows
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.predict import Prediction, predict
from polyclinic_common.models.score_head import Matrix, Vector
from polyclinic_common.rowwise import weighted_sums
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Predicted:
    """Predictions for n patients.

    Attributes
    ----------
    study : Study
        The study.
    x : array of shape (n, width)
        The patients as the model reads them.
    prediction : Prediction
        NaN where no number is given.
    flags : tuple of tuple of Flag
        What there is to say about every patient.
    given : array of shape (n,)
        Whether a number is given.
    """

    study: Study
    x: Matrix
    prediction: Prediction
    flags: tuple[tuple[Flag, ...], ...]
    given: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.given)


class Predictor:
    """A released model at one hospital.

    Parameters
    ----------
    study : Study
        Its study.
    weights : array of shape (d,)
        Its weights.
    site : str or None
        The hospital's name in the roster. Another, or none, is a hospital outside it: no indicator
        stands for it.
    """

    def __init__(self, study: Study, weights: Vector, site: str | None = None):
        self.study = study
        self.weights = weights
        self.encoding = Encoding(study)
        self.site = site if site in study.roster.sites else None

    @property
    def is_outside(self) -> bool:
        """Whether the model would read which hospital it is, and does not know this one."""
        return self.study.cohort.site_indicator and self.site is None

    def encode(self, frame: pd.DataFrame) -> Matrix:
        """Return patients as the model reads them, shape (n, width)."""
        return self.encoding.encode_features(frame, self.site)

    def predict(self, frame: pd.DataFrame, *, strict: bool = False) -> Predicted:
        """Predict for the n patients of a table in the contract's columns.

        Parameters
        ----------
        strict : bool
            Give no number either where a value lies outside its public range.
        """
        flags, x = flag_rows(self.study, frame), self.encode(frame)
        refused = {"not covered", "clamped"} if strict else {"not covered"}
        given = np.array([all(f.kind not in refused for f in row) for row in flags], dtype=np.bool_)
        made = predict(self.study, self.encoding, self.weights, x)
        curves = None if made.survival is None else _only(given[:, None], made.survival)
        return Predicted(self.study, x, Prediction(_only(given, made.value), curves), flags, given)


def restricted_mean(outcome: Survival, survival: Matrix) -> Vector:
    """Return the mean time free of the event up to the end of the grid, shape (n,), in its unit.

    The area under the curve (Royston and Parmar, BMC Med. Res. Methodol. 13 (2013) 152), which
    starts at 1 and is straight between the ends of the intervals, as if events were spread evenly
    over each.

    Parameters
    ----------
    survival : array of shape (n, K)
        Probability to be free of the event at the end of every interval.
    """
    widths = np.diff(np.array([0.0, *outcome.grid]))
    curve = np.column_stack([np.ones(len(survival)), survival])
    return weighted_sums((curve[:, 1:] + curve[:, :-1]) / 2.0, widths[None, :])[:, 0]


def _only(given: NDArray[np.bool_], values: Matrix) -> Matrix:
    return np.where(given, values, np.nan)
