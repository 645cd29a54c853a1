"""A study that a hospital approved, with the patients that its site computes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.data.holdout import declared_for_training, held_out
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.identity.roster import Roster
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ApprovedStudy:
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
    size : int
        Declared patients of this hospital, those held out included.
    read : callable
        Gives its patients, encoded: those trained on, and the others as metrics and the vote see
        them.
    """

    study: Study
    roster: Roster
    verified: frozenset[bytes]
    declared: Mapping[str, int]
    name: str
    size: int
    read: Callable[[], tuple[Cohort, Cohort]] = field(compare=False)

    @cached_property
    def encoding(self) -> Encoding:
        """The study's encoding."""
        return Encoding(self.study)

    @property
    def cohort(self) -> Cohort:
        """Its patients that are trained on."""
        return self._cohorts[0]

    @property
    def held_out(self) -> Cohort:
        """Its other patients."""
        return self._cohorts[1]

    @cached_property
    def _cohorts(self) -> tuple[Cohort, Cohort]:
        return self.read()


def approved_with(
    study: Study,
    roster: Roster,
    verified: frozenset[bytes],
    declared: Mapping[str, int],
    name: str,
    table: Callable[[], pd.DataFrame],
) -> ApprovedStudy:
    """Return an approved study with its patients from a checked table.

    Parameters
    ----------
    declared : mapping
        All declared patients of every hospital, by name.
    table : callable
        Reads the table.
    """

    def read() -> tuple[Cohort, Cohort]:
        encoding, rows = Encoding(study), table()
        test = held_out(study, rows.assign(**{study.cohort.site: name}))  # whatever it says there
        return encoding.encode(rows[~test], name), held_out_cohort(encoding, rows[test], name)

    training = {site: declared_for_training(study, size) for site, size in declared.items()}
    return ApprovedStudy(study, roster, verified, training, name, declared[name], read)
