"""One seed's federation: every site's training and test patients, encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.consortium.statements import rounded
from polyclinic_common.data.check import check_table
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.data.holdout import held_out, uniform
from polyclinic_common.data.report import OTHER_EVENT
from polyclinic_common.data.rules import Mapping
from polyclinic_common.data.values import as_number, as_text
from polyclinic_common.errors import Code, DataError, Problem, SimulationError
from polyclinic_common.evaluation.observed import (
    Observed,
    Rows,
    held_out_cohort,
    observe,
    subgroup_rows,
)
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.contract import time_grid
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.sections import MenuEntry
from polyclinic_simulations.federation.setting import made_up_hospital
from polyclinic_simulations.results.exact_metrics import reported_metrics, score
from polyclinic_simulations.results.resampling import patient_weights, resampled
from polyclinic_simulations.results.results import Metrics, Scores

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

# A table may bring a published formula's prediction for every patient, in the outcome's unit, in
# a column named "published NAME". It is outside the contract and only compared with.
PUBLISHED = "published "
UNEVENNESS = 0.7


@dataclass(frozen=True)
class SiteData:
    """One site: its encoded cohorts, observed outcomes, and rows of every audited subgroup.

    `observed`, `subgroups` and `published` (predictions of published formulas, by name) are those
    of the test patients, `numbers` their patient numbers; `held_out` are the same patients as
    private metrics see them.
    """

    name: str
    train: Cohort
    observed_train: Observed
    test: Cohort
    observed: Observed
    subgroups: dict[str, Rows]
    published: dict[str, Floats]
    held_out: Cohort
    numbers: tuple[str, ...] = ()

    @property
    def declared(self) -> int:
        """Training patients rounded to ten: what everybody else learns of them."""
        return max(10, round(len(self.train) / 10) * 10)

    @property
    def declared_in_all(self) -> int:
        """All its patients rounded to ten, as a hospital of a real consortium declares them."""
        return rounded(len(self.train) + len(self.test))


@dataclass(frozen=True)
class Federation:
    """All sites of a study under one seed.

    `start` holds warm-start weights, where training does not start from the study's base rates.
    """

    study: Study
    encoding: Encoding
    seed: int
    sites: tuple[SiteData, ...]
    start: Floats | None = None

    @property
    def without_menu(self) -> Federation:
        """The same with one training, of the study's own setting, for the whole budget."""
        return replace(self, study=self.study.trained_with(MenuEntry()))

    @property
    def declared(self) -> dict[str, int]:
        """Declared patients of every site that trains."""
        return {site.name: site.declared for site in self.training_sites}

    @property
    def training_sites(self) -> tuple[SiteData, ...]:
        """Sites that are not held out as a whole."""
        holdout = self.study.evaluation.holdout
        held = holdout.sites if holdout.kind == "sites" else ()
        return tuple(site for site in self.sites if site.name not in held)

    @property
    def pooled(self) -> Cohort:
        """All training patients in one place: for baselines that no consortium could have."""
        return Cohort.concatenate([site.train for site in self.training_sites])

    @property
    def x_test(self) -> Floats:
        """Encoded rows of all test patients."""
        return np.concatenate([site.test.x for site in self.sites])

    @property
    def observed_train(self) -> Observed:
        """Observed outcomes of all training patients."""
        return Observed.concatenate([site.observed_train for site in self.training_sites])

    @property
    def observed(self) -> Observed:
        """Observed outcomes of all test patients."""
        return Observed.concatenate([site.observed for site in self.sites])

    @property
    def reported(self) -> tuple[str, ...]:
        """Metrics that are reported, the one that headlines first."""
        everybody = Observed.concatenate([self.observed_train, self.observed])
        return reported_metrics(self.study, everybody.value)

    @cached_property
    def weights(self) -> Floats:
        """How often every test patient counts in every resample."""
        return patient_weights([number for site in self.sites for number in site.numbers])

    def score(self, predicted: dict[str, Prediction]) -> Scores:
        """Score predictions for every site's test patients, overall, by site and by subgroup."""
        pooled = Prediction.concatenate([predicted[site.name] for site in self.sites])
        observed = self.observed
        by_site = {s.name: score(self.study, s.observed, predicted[s.name]) for s in self.sites}
        by_subgroup: dict[str, Metrics] = {}
        for name in self.sites[0].subgroups:
            rows = np.concatenate([site.subgroups[name] for site in self.sites])
            by_subgroup[name] = score(self.study, observed.take(rows), pooled.take(rows))
        return Scores(
            overall=score(self.study, observed, pooled),
            by_site=by_site,
            by_subgroup=by_subgroup,
            resampled=resampled(
                observed, pooled, self.weights, self.reported, time_grid(self.study)
            ),
        )


def refuse_unusable(
    study: Study,
    frame: pd.DataFrame,
    mapping: Mapping | None = None,
    unused: Sequence[str] = (),
) -> None:
    """Refuse a table that breaks the data contract, before anything is trained.

    Parameters
    ----------
    mapping : Mapping, optional
        What it was translated by.
    unused : sequence of str
        Columns of the extract that are not mapped.

    Raises
    ------
    DataError
        If the site column is absent, names a site outside the roster, or a site's table is not
        usable.
    """
    column = study.cohort.site
    if column not in frame.columns:
        raise DataError(
            Code.COLUMN_ABSENT,
            f"The table has no site column {column!r}.",
            "Name the site column in the study, or add it to the table.",
        )
    words = as_text(frame[column])
    if not set(words.dropna()) <= set(study.roster.sites) or words.isna().any():
        raise DataError(
            Code.SITE_UNKNOWN,
            f"The site column {column!r} holds names that are not in the roster, or none.",
            "Correct the column or the roster of the study.",
        )
    reports = {
        site: check_table(study, rows, mapping, unused)
        for site, rows in frame.groupby(words, sort=False)
    }
    problems = [
        Problem(f"{site}, {problem.place}", problem.what, problem.remedy)
        for site, report in reports.items()
        for problem in report.problems
    ]
    if problems:
        competing = any(report.other_events for report in reports.values())
        why = f": {OTHER_EVENT}" if competing else ""
        raise DataError(
            Code.EVENT_OTHER if competing else Code.DATA_UNUSABLE,
            f"The table cannot be used as it is{why}.",
            "Mend what is listed, or write it in a mapping and add --map MAPPING; `polyclinic data "
            "check` shows more of one hospital's table.",
            problems,
        )


def refuse_repeated(study: Study, frame: pd.DataFrame) -> None:
    """Refuse to spread patients whose number stands at two hospitals: they would meet in one.

    Raises
    ------
    DataError
        If a patient number stands twice in the whole table.
    """
    repeated = int(as_text(frame[study.cohort.patient_id]).duplicated().sum())
    if repeated:
        raise DataError(
            Code.DATA_UNUSABLE,
            f"{repeated} patient numbers stand at more than one hospital.",
            "Make patient numbers unique over the whole table before spreading it.",
        )


def spread(study: Study, frame: pd.DataFrame, hospitals: int) -> pd.DataFrame:
    """Spread all patients over made-up, unequal hospitals, whatever hospital they came from."""
    numbers = as_text(frame[study.cohort.patient_id])
    names = hospitals_by_hash([f"{number}|spread" for number in numbers], hospitals)
    return frame.assign(**{study.cohort.site: names})


def hospitals_by_hash(texts: Sequence[str], hospitals: int) -> list[str]:
    """Return the made-up hospital of every patient, each named by a text of its own.

    A patient goes to the hospital whose share of [0, 1) holds the hash of the text; hospital k has
    a share proportional to 1 / k^0.7.
    """
    shares = np.arange(1, hospitals + 1) ** -UNEVENNESS
    ends = np.cumsum(shares) / shares.sum()
    chosen = np.searchsorted(ends[:-1], [uniform(text) for text in texts], side="right")
    return [made_up_hospital(int(index)) for index in chosen]


def build_federation(study: Study, frame: pd.DataFrame, seed: int) -> Federation:
    """Split and encode a checked table.

    The seed fixes which patients are held out (where the study asks for a fraction).

    Raises
    ------
    SimulationError
        If no patient is left for training or none for testing.
    """
    encoding = Encoding(study)
    words = as_text(frame[study.cohort.site])
    test = held_out(study, frame, seed)
    sites = []
    for name in study.roster.sites:
        here = (words == name).to_numpy()
        sites.append(_site(encoding, name, frame[here & ~test], frame[here & test]))
    if not any(len(site.train) for site in sites) or not any(len(site.test) for site in sites):
        raise SimulationError(
            Code.SIMULATION_EMPTY,
            "The holdout leaves no patient to train on, or none to test on.",
            "Change evaluation.holdout in the study.",
        )
    return Federation(study, encoding, seed, tuple(sites))


def _site(encoding: Encoding, name: str, train: pd.DataFrame, test: pd.DataFrame) -> SiteData:
    return SiteData(
        name=name,
        train=encoding.encode(train, name),
        observed_train=observe(encoding.study, train),
        test=encoding.encode(test, name),
        observed=observe(encoding.study, test),
        subgroups=subgroup_rows(encoding.study, test),
        published={
            str(column).removeprefix(PUBLISHED): as_number(test[column])
            for column in test.columns
            if str(column).startswith(PUBLISHED)
        },
        held_out=held_out_cohort(encoding, test, name),
        numbers=tuple(map(str, as_text(test[encoding.study.cohort.patient_id]))),
    )
