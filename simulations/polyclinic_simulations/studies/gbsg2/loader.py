"""The data of German Breast Cancer Study Group 2, as shipped inside lifelines.

The public file names no hospitals. They are made up by a rule that anybody can repeat: patient
number i (the row, from 0) goes to the hospital whose share of [0, 1) holds the first eight bytes of
SHA-256("gbsg2|i"), read as a fraction; hospital k of 12 has a share proportional to 1 / k^0.7.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines.datasets import load_gbsg2

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
        hospital=[hospital_of(row) for row in range(len(frame))],
    )


def hospital_of(row: int) -> str:
    """Return the hospital of a patient by the rule above."""
    shares = 1.0 / np.arange(1, HOSPITALS + 1) ** 0.7
    digest = hashlib.sha256(f"gbsg2|{row}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2.0**64
    index = int(np.searchsorted(np.cumsum(shares) / shares.sum(), place, side="right"))
    return f"hospital {index + 1:02d}"
