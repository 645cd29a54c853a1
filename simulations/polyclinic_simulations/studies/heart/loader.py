"""The four public files of UCI heart disease, with FLamby's split.

As in FLamby, slope, vessels and thal (columns 10 to 12) are dropped, then rows with a missing
value. A serum cholesterol of 0 is no measurement and counts as missing.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from polyclinic_simulations.studies.registry import required_folder

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
COLUMNS = (
    "age",
    "sex",
    "chest_pain",
    "resting_pressure",
    "cholesterol",
    "fasting_sugar_high",
    "resting_ecg",
    "peak_heart_rate",
    "exercise_angina",
    "st_depression",
)
DROPPED = [10, 11, 12]
OUTCOME = 13


def load(data: Path | None) -> pd.DataFrame:
    """Return the 740 patients of the four hospitals."""
    folder = required_folder(data, "heart")
    split = pd.read_csv(folder / "split.csv").set_index(["file", "row"])["split"]
    return pd.concat([_hospital(folder, name, split) for name in HOSPITALS], ignore_index=True)


def _hospital(folder: Path, name: str, split: pd.Series) -> pd.DataFrame:
    file = f"processed.{name}.data"
    table = pd.read_csv(folder / file, header=None, na_values="?").drop(columns=DROPPED).dropna()
    frame = table[list(range(len(COLUMNS)))].set_axis(list(COLUMNS), axis=1)
    return frame.assign(
        cholesterol=frame["cholesterol"].where(frame["cholesterol"] > 0),
        patient=[f"{name} {row}" for row in table.index],
        hospital=name,
        disease=(table[OUTCOME] > 0).map({True: "1", False: "0"}),
        split=split[file].reindex(table.index),
    )
