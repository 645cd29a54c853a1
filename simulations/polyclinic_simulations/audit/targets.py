"""The patients under attack, and what each dosing rule would give them with every genotype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.values import as_number, as_text
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.features import Diplotype, Snp
from polyclinic_common.study.manifest import Study
from polyclinic_simulations.audit.genotypes import (
    CANDIDATES,
    GENES,
    Codes,
    Floats,
    ancestry_prior,
    true_codes,
)
from polyclinic_simulations.studies.dosing import LABEL, PHARMACOGENETIC

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Targets:
    """The patients under attack: age, height, weight and dose are recorded, as the formula needs.

    Attributes
    ----------
    table : DataFrame of n rows
        In the contract's columns.
    rows : array of shape (N,)
        Which rows of the whole table these are.
    dose : array of shape (n,)
        True weekly dose in mg.
    prior : array of shape (n, 18)
        How common every candidate genotype is among people of the patient's race.
    codes : mapping
        True genotype of each gene, array of shape (n,).
    """

    table: pd.DataFrame
    rows: Rows
    dose: Floats
    prior: Floats
    codes: Mapping[str, Codes]

    @staticmethod
    def of(study: Study, frame: pd.DataFrame) -> Targets:
        """Return the patients of a table who can be attacked."""
        dose = as_number(frame["dose"])
        rows = np.isfinite(PHARMACOGENETIC.root_dose(frame)) & np.isfinite(dose)
        table = frame[rows].reset_index(drop=True)
        codes = {
            feature.name: true_codes(feature, GENES[feature.name], table[feature.name])
            for feature in study.cohort.features
            if feature.name in GENES and isinstance(feature, Snp | Diplotype)
        }
        return Targets(table, rows, dose[rows], ancestry_prior(table["race"]), codes)

    def with_candidates(self) -> list[pd.DataFrame]:
        """Return the table once for every candidate, as if all patients had that genotype."""
        return [self.table.assign(vkorc1=v, cyp2c9=c) for v, c in CANDIDATES]


def label_doses(targets: Targets) -> Floats:
    """Return the drug label's dose for every candidate, shape (n, 18)."""
    return np.tile([LABEL[v][c] for v, c in CANDIDATES], (len(targets.table), 1))


def formula_doses(targets: Targets) -> Floats:
    """Return the published formula's dose for every patient and candidate, shape (n, 18)."""
    columns = [PHARMACOGENETIC.root_dose(table) ** 2 for table in targets.with_candidates()]
    return np.column_stack(columns)


@dataclass(frozen=True)
class ModelDoses:
    """Asks a model of the study for doses; patients are encoded once.

    Attributes
    ----------
    x : array of shape (n, width)
        The patients as they are.
    candidates : array of shape (18, n, width)
        The patients as if they had each candidate genotype.
    """

    study: Study
    encoding: Encoding
    x: Floats
    candidates: Floats

    @staticmethod
    def of(study: Study, targets: Targets) -> ModelDoses:
        """Encode the patients under attack."""
        encoding = Encoding(study)
        tables = [_encoded(encoding, table) for table in targets.with_candidates()]
        return ModelDoses(study, encoding, _encoded(encoding, targets.table), np.stack(tables))

    def for_candidates(self, weights: Vector) -> Floats:
        """Return the model's dose for every patient and candidate, shape (n, 18)."""
        columns = [predict(self.study, self.encoding, weights, x).value for x in self.candidates]
        return np.column_stack(columns)

    def for_patients(self, weights: Vector) -> Floats:
        """Return the model's dose for every patient, shape (n,)."""
        return predict(self.study, self.encoding, weights, self.x).value


def _encoded(encoding: Encoding, table: pd.DataFrame) -> Floats:
    x = np.empty((len(table), encoding.width))
    words = as_text(table[encoding.study.cohort.site])
    for name in words.unique():
        here = (words == name).to_numpy()
        x[here] = encoding.encode(table[here], str(name)).x
    return x
