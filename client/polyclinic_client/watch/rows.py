"""Which rows of a table are one patient each: they alone are judged, as outcomes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.watch.finding import Finding
from polyclinic_common.data.patients import patient_numbers
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """What is known of n rows by their patient numbers.

    Attributes
    ----------
    single : array of shape (n,)
        Whether a row has a number that stands in no other row.
    first : array of shape (n,)
        Whether no earlier row has its number; rows without one included.
    shared : int
        Rows whose number stands in another row, too.
    patients : int
        Patients whose number stands in several rows.
    nameless : int
        Rows without a number.
    """

    single: Bools
    first: Bools
    shared: int
    patients: int
    nameless: int


def rows_of(study: Study, frame: pd.DataFrame) -> Rows:
    """Return what patient numbers say of the rows; numbers are compared as for training."""
    numbers = patient_numbers(study, frame)
    there = numbers.notna().to_numpy(dtype=np.bool_)
    shared = there & numbers.duplicated(keep=False).to_numpy(dtype=np.bool_)
    return Rows(
        single=there & ~shared,
        first=~(there & numbers.duplicated().to_numpy(dtype=np.bool_)),
        shared=int(shared.sum()),
        patients=int(numbers[shared].nunique()),
        nameless=int((~there).sum()),
    )


def row_findings(study: Study, rows: Rows) -> Iterator[Finding]:
    """Yield why rows are not judged."""
    about = study.cohort.patient_id
    if rows.shared:
        yield Finding(
            about,
            "look",
            f"{rows.shared} rows share their patient number with another row ({rows.patients} "
            "patients): their outcomes are not judged, and their inputs are looked at once.",
            "Make it one row a patient, or say in the mapping which row counts: "
            '[patients] rows = "first".',
        )
    if rows.nameless:
        yield Finding(
            about,
            "look",
            f"{rows.nameless} rows have no patient number: whether they are patients of their own "
            "cannot be told, and their outcomes are not judged.",
            f"Fill in {about}, or name its column in the mapping; drop blank lines and totals.",
        )
