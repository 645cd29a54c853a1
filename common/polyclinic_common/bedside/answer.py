"""One patient, entered in the form, given to the model: prediction, reasons, interval, similar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polyclinic_common.bedside.entered import Entered
from polyclinic_common.bedside.hundred import Interval
from polyclinic_common.bedside.view import ResultView, result_view
from polyclinic_common.bundle.patients import patient_frame
from polyclinic_common.bundle.predictor import Predicted, Predictor
from polyclinic_common.bundle.reasons import contributions
from polyclinic_common.bundle.similar import OwnPatients
from polyclinic_common.models.head import head_of
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study

OUTSIDE = (
    "This hospital is not in the roster of the study. The model knows how those hospitals differ, "
    "and counts this one as none of them: how it differs is not known."
)
Intervals = Callable[[Predicted], Interval | None]


def no_interval(predicted: Predicted) -> None:
    """Know nothing of how far the truth may lie from a prediction."""


@dataclass(frozen=True)
class Asked:
    """A model that is asked about one patient at a time.

    Attributes
    ----------
    study, weights : Study, array of shape (d,)
        The model.
    intervals : callable
        Says how sure a prediction is.
    own : OwnPatients or None
        This hospital's own patients, where its table was given.
    """

    study: Study
    weights: Vector
    intervals: Intervals = no_interval
    own: OwnPatients | None = None

    def __call__(self, entered: Entered) -> ResultView:
        """Return what the page says about the patient.

        Raises
        ------
        BundleError
            B010 if the patient cannot be read.
        """
        predictor = Predictor(self.study, self.weights, entered.site)
        frame = patient_frame(self.study, entered.values)
        predicted = predictor.predict(frame)
        told = head_of(self.study).as_encoded
        return result_view(
            predicted,
            contributions(self.study, self.weights, predicted.x) if told else None,
            self.intervals(predicted),
            self.own.like(frame) if self.own is not None else None,
            (OUTSIDE,) if predictor.is_outside else (),
        )
