"""Which patients of a hospital's table the model was not trained on.

A site's folder holds the table that was frozen for the study: whoever stands in it and is not held
out there was trained on. Of anybody else only the hospital can say; without a folder, of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.holdout import held_out
from polyclinic_common.data.patients import patient_numbers
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

FROZEN = "studies/{}/table.parquet"
"""Where a site's folder holds the table of a study; written by the client alone."""


@dataclass(frozen=True)
class Untrained:
    """What is known of the patients of a table.

    Attributes
    ----------
    rows : array of shape (n,)
        Who was not trained on, as far as the folder tells.
    trained, held_out : int
        Patients who were trained on, and those whom the study holds out.
    looked : bool
        Whether there was a frozen table to look at.
    """

    rows: NDArray[np.bool_]
    trained: int = 0
    held_out: int = 0
    looked: bool = False


def untrained(study: Study, study_hash: str, frame: pd.DataFrame, site: Path | None) -> Untrained:
    """Return who of a table in the contract's columns was not trained on.

    Parameters
    ----------
    study_hash : str
        Names the study in the folder.
    site : Path or None
        A site's folder.

    Raises
    ------
    BundleError
        B022 if the folder's table cannot be read.
    """
    frozen = None if site is None else frozen_table(site, study_hash)
    if frozen is None:
        return Untrained(np.ones(len(frame), dtype=np.bool_))
    out = held_out(study, frozen)
    theirs, numbers = patient_numbers(study, frozen), patient_numbers(study, frame)
    trained = numbers.isin(set(theirs[~out])).to_numpy()
    kept = numbers.isin(set(theirs[out])).to_numpy() & ~trained
    return Untrained(~trained, int(trained.sum()), int(kept.sum()), looked=True)


def frozen_table(site: Path, study_hash: str) -> pd.DataFrame | None:
    """Return the table that a site's folder holds for a study; None if it holds none.

    Raises
    ------
    BundleError
        B022 if it cannot be read.
    """
    import pandas as pd  # noqa: PLC0415

    path = site / FROZEN.format(study_hash)
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # pyarrow's own errors are among them
        raise BundleError(
            Code.CALIBRATION_DAMAGED,
            f"The frozen table {path} cannot be read, so that nobody can say who was trained on.",
            "Put the site's folder back from a copy.",
        ) from None
