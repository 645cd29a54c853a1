"""AIDS Clinical Trials Group study 175, the table of the R package speff2trial.

Only what was known at randomisation is taken; CD4 and CD8 counts at 20 and 96 weeks and whether
treatment was stopped are not. The public file names no hospitals: eight are made up by the rule of
`made_up_hospitals` from the patient's number.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from polyclinic_simulations.studies.made_up_hospitals import hospitals_of
from polyclinic_simulations.studies.registry import required_folder

HOSPITALS = 8
COLUMNS = {
    "age": "age",
    "wtkg": "weight",
    "gender": "sex",
    "race": "race",
    "hemo": "haemophilia",
    "homo": "homosexual_activity",
    "drugs": "injected_drugs",
    "karnof": "karnofsky",
    "symptom": "symptoms",
    "strat": "earlier_treatment",
    "preanti": "days_treated_earlier",
    "z30": "recent_zidovudine",
    "oprior": "other_drug_before",
    "cd40": "cd4",
    "cd80": "cd8",
    "days": "days",
    "cens": "event",
}
ARMS = {
    0: "zidovudine",
    1: "zidovudine and didanosine",
    2: "zidovudine and zalcitabine",
    3: "didanosine",
}


def load(data: Path | None) -> pd.DataFrame:
    """Return the 2,139 patients as randomised."""
    table = pd.read_csv(required_folder(data, "actg175") / "ACTG175.txt", sep=r"\s+")
    patients = table["pidnum"].astype(str)
    return (
        table[list(COLUMNS)]
        .rename(columns=COLUMNS)
        .assign(
            patient=patients,
            hospital=hospitals_of("actg175", patients, HOSPITALS),
            arm=table["arms"].map(ARMS),
        )
    )
