"""A released model as one hospital uses it, with what it measured or set right on its patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polyclinic_common.bundle.interval import Intervals
from polyclinic_common.bundle.intervals import intervals_for, survival_intervals_for
from polyclinic_common.bundle.local_calibration import (
    LocalCalibration,
    local_calibration,
    read_calibration,
)
from polyclinic_common.bundle.opening import OpenedBundle
from polyclinic_common.bundle.predictor import Predicted, Predictor
from polyclinic_common.study.outcomes import Survival

RECALIBRATED = "Recalibrated here: level or slope were fitted to this hospital's own patients."
LEFT_OUT = (
    "The calibration that is kept here was made under another hospital's name, and is left out: "
    "calibrate the model under this one."
)
OUTSIDE = (
    "This hospital is outside the study's roster: the model knows nothing of what is particular to "
    "it."
)


@dataclass(frozen=True)
class ModelHere:
    """A released model at one hospital.

    Attributes
    ----------
    opened : OpenedBundle
        The model.
    predictor : Predictor
        It, recalibrated where this hospital did so.
    local : LocalCalibration or None
        What was measured on this hospital's patients.
    left_out : LocalCalibration or None
        The same, where it was measured under another hospital's name: it says nothing here.
    """

    opened: OpenedBundle
    predictor: Predictor
    local: LocalCalibration | None
    left_out: LocalCalibration | None = None

    @staticmethod
    def of(
        opened: OpenedBundle, site: Path, hospital: str | None, calibration: Path | None = None
    ) -> ModelHere:
        """Return the model as the folder of a site, or a file of a calibration, says.

        Parameters
        ----------
        hospital : str or None
            The hospital's name in the roster; default: the name of the site's folder, else that of
            the calibration. A calibration under another name is left out, and that is told.
        calibration : Path, optional
            What `polyclinic model calibrate --out` wrote; default: what the site's folder keeps.

        Raises
        ------
        BundleError
            B022, B023 if the calibration cannot be read or is about another model.
        """
        bundle = opened.bundle
        if calibration is None:
            local = local_calibration(site, bundle.digest)
        else:
            local = read_calibration(calibration, bundle.digest)
        name = hospital or opened.hospital or (None if local is None else local.hospital)
        return ModelHere._as(opened, name, local)

    @staticmethod
    def _as(opened: OpenedBundle, name: str | None, local: LocalCalibration | None) -> ModelHere:
        study, weights = opened.bundle.study, opened.bundle.model.weights
        name = name if name in study.roster.sites else None
        reads_it = study.cohort.site_indicator  # else a name changes nothing
        if local is None or (reads_it and local.hospital != name):
            return ModelHere(opened, Predictor(study, weights, name), None, local)
        return ModelHere(opened, Predictor(study, local.applied_to(study, weights), name), local)

    def under(self, name: str | None) -> ModelHere:
        """Return the model for patients of the hospital of that name."""
        return ModelHere._as(self.opened, name, self.local or self.left_out)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be told beside every prediction."""
        recalibrated = self.local is not None and self.local.recalibrated
        return (
            *((OUTSIDE,) if self.predictor.is_outside else ()),
            *((RECALIBRATED,) if recalibrated else ()),
            *((LEFT_OUT,) if self.left_out is not None else ()),
            *self.opened.notes,
        )

    def intervals(self, predicted: Predicted) -> Intervals:
        """Return an interval for every patient's number or probability; None for survival."""
        return intervals_for(predicted, self.opened.bundle.evaluation, self.local)

    def survival_intervals(self, predicted: Predicted) -> tuple[Intervals, ...]:
        """Return one for every patient and time of the grid; none where it is not survival."""
        if not isinstance(predicted.study.outcome, Survival):
            return ((),) * len(predicted)
        return survival_intervals_for(predicted, self.opened.bundle.evaluation, self.local)
