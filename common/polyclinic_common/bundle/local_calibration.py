"""What a hospital found about a released model on patients of its own, kept in its folder.

One file a model, ``SITE/calibrations/DIGEST.json``, readable by its owner only; it never leaves.
It holds what an interval needs and nothing besides: half a width, counts of a group, steps of a
fit; no outcome and no row of a patient. Where level and slope were fitted anew, these two numbers
are in it, and whatever is shown then says *recalibrated here*.

For probabilities there are two kinds. The default, *bins*, says how many of the patients here with
a like probability had the outcome, with Wilson's interval. *venn-abers* needs no groups and is
exact in its own sense, but its two probabilities lie closer together than chance allows the true
one to lie (:mod:`polyclinic_common.bundle.venn_abers`): read as an interval, it would promise too
much. Survival is compared with what was observed in groups of predicted risk; a time of death of
one person has no honest narrow interval. There is none for the effect of a treatment on one person,
either: nobody is observed under two treatments.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from polyclinic_common.bundle import venn_abers
from polyclinic_common.bundle.certificate import Record
from polyclinic_common.bundle.refit import Refit
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.files import write_private
from polyclinic_common.models.score_head import Vector
from polyclinic_common.modes import make_private
from polyclinic_common.study.manifest import Study

FOLDER = "calibrations"
SHA256 = r"^[0-9a-f]{64}$"
Probability = Annotated[float, Field(ge=0, le=1)]
Step = tuple[float, Probability]


class Width(Record):
    """Numbers: half the width of every interval, on the scale of the model."""

    kind: Literal["conformal"] = "conformal"
    half_width: float = Field(ge=0)


class Bins(Record):
    """Yes or no: by group of predicted probability, patients and those with the outcome.

    `edges` cut the groups; there is one edge fewer than groups.
    """

    kind: Literal["bins"] = "bins"
    edges: tuple[Probability, ...]
    patients: tuple[int, ...]
    having: tuple[int, ...]


class VennAbers(Record):
    """Yes or no: two fits, as steps over the predicted probability."""

    kind: Literal["venn-abers"] = "venn-abers"
    lower: tuple[Step, ...] = Field(min_length=1)
    upper: tuple[Step, ...] = Field(min_length=1)

    @property
    def steps(self) -> venn_abers.Steps:
        """The two fits."""
        return venn_abers.Steps(self.lower, self.upper)


class ObservedShare(Record):
    """A share with its interval."""

    value: Probability
    low: Probability
    high: Probability


class Curves(Record):
    """Survival: by group of predicted risk, patients and their observed survival on the grid.

    A time at which too few of a group are followed is None.
    """

    kind: Literal["curves"] = "curves"
    edges: tuple[float, ...]
    patients: tuple[int, ...]
    observed: tuple[tuple[ObservedShare | None, ...], ...]


class LocalCalibration(Record):
    """What one hospital found about one released model.

    Attributes
    ----------
    format : int
        Of this file.
    bundle : str
        Digest of the model's file.
    made : date
        When.
    alpha : float
        Intervals are at the level 1 - alpha.
    patients : int
        On how many patients they rest; none was trained on, so far as is known.
    held_out : int
        How many of the table's patients the study held out; of the others the hospital says that
        they are new.
    hospital : str or None
        The name in the roster under which the model read the patients; None outside it.
    refit : Refit or None
        Level and slope of this hospital, where they were fitted.
    found : Width, Bins, VennAbers or Curves
        What gives the intervals.
    """

    format: Literal[1] = 1
    bundle: str = Field(pattern=SHA256)
    made: dt.date
    alpha: float = Field(gt=0, lt=1)
    patients: int
    held_out: int
    hospital: str | None = None
    refit: Refit | None = None
    found: Width | Bins | VennAbers | Curves = Field(discriminator="kind")

    @property
    def recalibrated(self) -> bool:
        """Whether predictions here are no longer those of the released model."""
        return self.refit is not None and self.refit.changed != "nothing"

    def applied_to(self, study: Study, weights: Vector) -> Vector:
        """Return the model as this hospital uses it, shape (d,): what the intervals are about."""
        return weights if self.refit is None else self.refit.applied_to(study, weights)


def kept_at(site: Path, digest: str) -> Path:
    """Return where a site's folder keeps what it found about a model."""
    return site / FOLDER / f"{digest}.json"


def keep(calibration: LocalCalibration, path: Path) -> None:
    """Write it, readable by its owner only; what was there before is replaced.

    Raises
    ------
    ConsortiumError
        C029 if its folder in a site's folder belongs to another user.
    BundleError
        B022 if it cannot be written.
    """
    try:
        if path.parent.name == FOLDER:
            make_private(path.parent)
        write_private(path, calibration.model_dump_json(indent=2).encode())
    except OSError as error:
        raise _damaged(path, f"cannot be written ({error.strerror})") from None


def read_calibration(path: Path, digest: str) -> LocalCalibration:
    """Return what a file holds.

    Parameters
    ----------
    digest : str
        Of the model that it must be about.

    Raises
    ------
    BundleError
        B022 if it cannot be read, B023 if it is about another model.
    """
    try:
        calibration = LocalCalibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None
    except ValidationError:
        raise _damaged(path, "is damaged") from None
    if calibration.bundle != digest:
        raise BundleError(
            Code.CALIBRATION_FOREIGN,
            f"The calibration {path.name} is about another model.",
            "Calibrate this one: polyclinic model calibrate FILE TABLE.",
        )
    return calibration


def local_calibration(site: Path, digest: str) -> LocalCalibration | None:
    """Return what a site's folder keeps about a model; None if nothing.

    Raises
    ------
    BundleError
        As `read_calibration`.
    """
    path = kept_at(site, digest)
    return read_calibration(path, digest) if path.exists() else None


def _damaged(path: Path, what: str) -> BundleError:
    return BundleError(
        Code.CALIBRATION_DAMAGED,
        f"The calibration {path} {what}.",
        "Check the folder, and calibrate again: polyclinic model calibrate FILE TABLE.",
    )
