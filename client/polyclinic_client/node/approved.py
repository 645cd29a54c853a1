"""A study that a hospital approved, with the patients that a node computes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from polyclinic_client.studies import StudyBook
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.data.holdout import declared_for_training, held_out
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.secure_sum.identity import Roster
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class Approved:
    """A study that this hospital approved, with its patients.

    Attributes
    ----------
    study : Study
        The study.
    roster : Roster
        All hospitals of the study.
    verified : frozenset of bytes
        Identity keys that this hospital compared outside the system.
    declared : mapping
        Declared patients of every hospital that count as trained on, by name.
    name : str
        This hospital.
    cohort : Cohort
        Its patients that are trained on, encoded.
    held_out : Cohort
        Its other patients, as metrics and the vote see them.
    """

    study: Study
    roster: Roster
    verified: frozenset[bytes]
    declared: Mapping[str, int]
    name: str
    cohort: Cohort
    held_out: Cohort


def find_approved(book: StudyBook, study_hash: str) -> Approved | None:
    """Return an approved study by its hash; None if a node may not answer for it."""
    try:
        wanted = bytes.fromhex(study_hash)
    except ValueError:
        return None
    found = book.approved_study(wanted)
    if found is None:
        return None
    study, name = found.study, found.name
    table = book.table(wanted)
    return approved_with(study, found.roster, found.verified, found.declared, name, table)


def approved_with(
    study: Study,
    roster: Roster,
    verified: frozenset[bytes],
    declared: Mapping[str, int],
    name: str,
    table: pd.DataFrame,
) -> Approved:
    """Return an approved study with its patients from a checked table, split as the study says.

    Parameters
    ----------
    declared : mapping
        All declared patients of every hospital, by name.
    """
    encoding, test = Encoding(study), held_out(study, table)
    return Approved(
        study,
        roster,
        verified,
        {site: declared_for_training(study, site, size) for site, size in declared.items()},
        name,
        encoding.encode(table[~test], name),
        held_out_cohort(encoding, table[test], name),
    )
