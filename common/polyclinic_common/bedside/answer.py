"""One patient, entered in the form, given to the model: prediction, interval, reasons, similar."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic_common.bedside.entered import Entered
from polyclinic_common.bedside.view import ResultView, result_view
from polyclinic_common.bundle.here import ModelHere
from polyclinic_common.bundle.patients import patient_frame
from polyclinic_common.bundle.predictor import Predicted
from polyclinic_common.bundle.reasons import Reasons, contributions
from polyclinic_common.bundle.similar import OwnPatients
from polyclinic_common.errors import ModelError


@dataclass(frozen=True)
class Asked:
    """A model that is asked about one patient at a time.

    Attributes
    ----------
    here : ModelHere
        The model, as this hospital uses it.
    own : OwnPatients or None
        This hospital's own patients, where its table was given.
    """

    here: ModelHere
    own: OwnPatients | None = None

    def __call__(self, entered: Entered) -> ResultView:
        """Return what the page says about the patient.

        Raises
        ------
        BundleError
            B010 if the patient cannot be read.
        """
        here = self._under(entered.site)
        frame = patient_frame(here.predictor.study, entered.values)
        predicted = here.predictor.predict(frame)
        similar = None if self.own is None else self.own.like(frame)
        return result_view(here, predicted, _reasons(here, predicted), similar)

    def _under(self, name: str | None) -> ModelHere:
        """Return the model as the form's hospital uses it; where none is asked for, as here."""
        asked = self.here.predictor.study.cohort.site_indicator
        return self.here.under(name) if asked else self.here


def _reasons(here: ModelHere, predicted: Predicted) -> Reasons | None:
    """Return the reasons; None where they cannot be told: the model predicts all the same."""
    try:
        return contributions(predicted.study, here.predictor.weights, predicted.x)
    except ModelError:
        return None
