"""Breast cancer in The Cancer Genome Atlas, as prepared and split by FLamby.

FLamby (Terrail et al., NeurIPS 2022) publishes one 0/1 column for each frequent value of a clinical
variable. Columns of one variable are put together again here. Where none is 1 the patient has the
reference value or a rare one: for T, N, stage and edition of the manual nobody can tell which, and
the variable counts as missing. Left out are columns that repeat others (AJCC stage, diagnosis),
those that only tell whether something was recorded (MX, synchronous malignancy) and the ICD-10
code, which tells the part of the breast.

The region is that of the tissue source site, characters 6 and 7 of the patient's barcode. FLamby's
clients 0 to 5 are these regions.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from polyclinic_simulations.studies.registry import required_folder

REGIONS = ("Northeast", "South", "West", "Midwest", "Europe", "Canada")


class Variable(NamedTuple):
    """A clinical variable: the prefix of its columns, and what none of them being 1 means."""

    prefix: str
    otherwise: str | None = None


VARIABLES = {
    "ethnicity": Variable("ethnicity_", "hispanic or latino"),
    "race": Variable("race_", "other"),
    "tumour": Variable("ajcc_pathologic_t_"),
    "nodes": Variable("ajcc_pathologic_n_"),
    "stage": Variable("tumor_stage_stage "),
    "staging_edition": Variable("ajcc_staging_system_edition_"),
    "morphology": Variable("morphology_", "other"),
    "earlier_malignancy": Variable("prior_malignancy_", "no"),
    "therapy": Variable("treatment_or_therapy_", "no"),
}
NOT_REPORTED = "not reported"


def load(data: Path | None) -> pd.DataFrame:
    """Return the 1,088 patients of FLamby's split."""
    folder = required_folder(data, "tcga_brca")
    centres = pd.read_csv(folder / "centers.csv").set_index("TSS Code")["Region"]
    split = pd.read_csv(folder / "train_test_split.csv").set_index("pid")["fold"]
    table = pd.read_csv(folder / "brca.csv").set_index("pid").loc[split.index]
    return pd.DataFrame(
        {
            "patient": table.index,
            "region": [centres[patient[5:7]] for patient in table.index],
            "age": table["age_at_index"].to_numpy(),
            "days": table["T"].to_numpy(),
            "died": table["E"].to_numpy(),
            "split": split.to_numpy(),
            **{name: regrouped(table, variable) for name, variable in VARIABLES.items()},
        },
    )


def regrouped(table: pd.DataFrame, variable: Variable) -> list[str | None]:
    """Return one word a patient from the 0/1 columns of a variable; missing if not reported."""
    words = [variable.otherwise] * len(table)
    for column in table.columns:
        if column.startswith(variable.prefix):
            word = column.removeprefix(variable.prefix)
            for row in np.flatnonzero(table[column]):
                words[row] = None if word == NOT_REPORTED else word
    return words
