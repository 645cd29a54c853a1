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
    """

    opened: OpenedBundle
    predictor: Predictor
    local: LocalCalibration | None

    @staticmethod
    def of(
        opened: OpenedBundle, site: Path, hospital: str | None, calibration: Path | None = None
    ) -> ModelHere:
        """Return the model as the folder of a site, or a file of a calibration, says.

        Parameters
        ----------
        hospital : str or None
            The hospital's name in the roster; default: that of its calibration.
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
        weights = bundle.model.weights
        if local is not None:
            weights = local.applied_to(bundle.study, weights)
            hospital = hospital or local.hospital
        return ModelHere(opened, Predictor(bundle.study, weights, hospital), local)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be told beside every prediction."""
        recalibrated = self.local is not None and self.local.recalibrated
        return (
            *((OUTSIDE,) if self.predictor.is_outside else ()),
            *((RECALIBRATED,) if recalibrated else ()),
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
