"""The public file of the International Warfarin Pharmacogenetics Consortium.

New England Journal of Medicine 360 (2009) 753. The analysis cohort and the rule that fills VKORC1
from linked polymorphisms are those of the publication's appendix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from polyclinic_simulations.studies.dosing import with_published_doses
from polyclinic_simulations.studies.registry import required_folder

# What a spreadsheet made of ranges that look like dates.
SPREADSHEET_DATES = {"19-Oct": "10 - 19", "3-Feb": "2-3", "4-Mar": "3-4"}
MIDDLE_OF_DECADE = 5
RACES = ("Asian", "Black or African American", "White")
INDUCERS = ("Carbamazepine (Tegretol)", "Phenytoin (Dilantin)", "Rifampin or Rifampicin")
LOWEST_INR, HIGHEST_INR = 2.0, 3.0
EXCLUDED_RANGE = "2.5-3.5"

# Linked polymorphism, genotype of -1639 that each of its genotypes implies, and whether that
# holds for every race or only where race is known and not Black; the first that applies wins.
LINKED = (
    ("VKORC1 2255 consensus", {"C/C": "G/G", "T/T": "A/A", "C/T": "A/G"}, False),
    ("VKORC1 1173 consensus", {"C/C": "G/G", "T/T": "A/A", "C/T": "A/G"}, True),
    ("VKORC1 1542 consensus", {"G/G": "G/G", "C/C": "A/A", "C/G": "A/G"}, False),
)


def load(data: Path | None) -> pd.DataFrame:
    """Return the analysis cohort in the contract's columns, with the published formulas' doses."""
    table = repaired(pd.read_csv(required_folder(data, "iwpc") / "iwpc.csv", dtype=str))
    return with_published_doses(_in_contract(table[in_analysis_cohort(table)]))


def repaired(table: pd.DataFrame) -> pd.DataFrame:
    """Return the file with the ranges that a spreadsheet took for dates written out again."""
    damaged = ("Age", "Estimated Target INR Range Based on Indication")
    return table.replace(dict.fromkeys(damaged, SPREADSHEET_DATES))


def in_analysis_cohort(table: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows of the repaired file belong to the publication's analysis cohort."""
    target = pd.to_numeric(table["Target INR"])
    any_vkorc1 = table.filter(regex=r"^VKORC1 .* consensus$").notna().any(axis=1)
    return (
        (table["Subject Reached Stable Dose of Warfarin"] == "1")
        & table["Therapeutic Dose of Warfarin"].notna()
        & (target.isna() | target.between(LOWEST_INR, HIGHEST_INR))
        & (table["Estimated Target INR Range Based on Indication"] != EXCLUDED_RANGE)
        & table["CYP2C9 consensus"].notna()
        & any_vkorc1
    )


def filled_vkorc1(table: pd.DataFrame) -> pd.Series[str]:
    """Return VKORC1 -1639, filled from linked polymorphisms where it was not typed."""
    strongly_linked = table["Race (OMB)"].isin({"White", "Asian"})
    found = table["VKORC1 -1639 consensus"]
    for column, implied, any_race in LINKED:
        guess = table[column].map(implied)
        found = found.fillna(guess if any_race else guess.where(strongly_linked))
    return found


def years(ages: pd.Series[str]) -> pd.Series[float]:
    """Return the middle of the decade, in years: 25 for ``20 - 29``, 95 for ``90+``."""
    return ages.str.extract(r"^(\d+)", expand=False).astype(float) + MIDDLE_OF_DECADE


def enzyme_inducer(table: pd.DataFrame) -> pd.Series[str]:
    """Return 1 if any inducer is taken, 0 if none of those recorded is, else missing."""
    return table[list(INDUCERS)].astype(float).max(axis=1).map({0.0: "0", 1.0: "1"})


def _in_contract(table: pd.DataFrame) -> pd.DataFrame:
    race = table["Race (OMB)"]
    return pd.DataFrame(
        {
            "patient": table["PharmGKB Subject ID"],
            "site": "site " + table["Project Site"],
            "age": years(table["Age"]),
            "height": table["Height (cm)"].astype(float),
            "weight": table["Weight (kg)"].astype(float),
            "race": race.where(race.isin(RACES), np.nan),
            "vkorc1": filled_vkorc1(table),
            "cyp2c9": table["CYP2C9 consensus"],
            "amiodarone": table["Amiodarone (Cordarone)"],
            "enzyme_inducer": enzyme_inducer(table),
            "dose": table["Therapeutic Dose of Warfarin"].astype(float),
        }
    ).reset_index(drop=True)
