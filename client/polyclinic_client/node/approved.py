"""A study that a hospital approved, with the patients that a node computes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import pandas as pd

from polyclinic_client.studies import StudyBook
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.data.holdout import declared_for_training, held_out
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.secure_sum.identity import Roster
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class Approved:
    """A study that this hospital approved, with its patients: read when they are asked for first.

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
    table : callable
        Reads its checked table.
    """

    study: Study
    roster: Roster
    verified: frozenset[bytes]
    declared: Mapping[str, int]
    name: str
    table: Callable[[], pd.DataFrame] = field(compare=False)

    @property
    def cohort(self) -> Cohort:
        """Its patients that are trained on, encoded."""
        return self._cohorts[0]

    @property
    def held_out(self) -> Cohort:
        """Its other patients, as metrics and the vote see them."""
        return self._cohorts[1]

    @cached_property
    def _cohorts(self) -> tuple[Cohort, Cohort]:
        encoding, table = Encoding(self.study), self.table()
        test = held_out(self.study, table)
        cohort = encoding.encode(table[~test], self.name)
        return cohort, held_out_cohort(encoding, table[test], self.name)


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
    table = partial(book.table, wanted)
    return approved_with(study, found.roster, found.verified, found.declared, name, table)


def approved_with(
    study: Study,
    roster: Roster,
    verified: frozenset[bytes],
    declared: Mapping[str, int],
    name: str,
    table: Callable[[], pd.DataFrame],
) -> Approved:
    """Return an approved study with its patients from a checked table.

    Parameters
    ----------
    declared : mapping
        All declared patients of every hospital, by name.
    """
    training = {site: declared_for_training(study, site, size) for site, size in declared.items()}
    return Approved(study, roster, verified, training, name, table)
