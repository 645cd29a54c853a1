"""The data of German Breast Cancer Study Group 2, as shipped inside lifelines.

The public file names no hospitals: twelve are made up by the rule of `made_up_hospitals`, in which
a patient's number is the row, from 0.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from lifelines.datasets import load_gbsg2

from polyclinic_simulations.studies.made_up_hospitals import hospitals_of

HOSPITALS = 12
COLUMNS = {
    "horTh": "hormone_therapy",
    "menostat": "menopause",
    "tsize": "tumour_size",
    "tgrade": "grade",
    "pnodes": "positive_nodes",
    "progrec": "progesterone_receptor",
    "estrec": "oestrogen_receptor",
    "time": "days",
    "cens": "recurrence_or_death",
}


def load(data: Path | None) -> pd.DataFrame:
    """Return the 686 patients; `data` is not needed."""
    del data
    frame: pd.DataFrame = load_gbsg2().rename(columns=COLUMNS)
    return frame.assign(
        patient=[str(row) for row in range(len(frame))],
        hospital=hospitals_of("gbsg2", range(len(frame)), HOSPITALS),
    )
