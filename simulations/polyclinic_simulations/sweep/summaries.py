"""Describe every site's data, as far as a simulation may know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polyclinic_common.data.values import as_text, column_or_missing
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.study.features import columns_of
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.results.results import SiteSummary

if TYPE_CHECKING:
    import pandas as pd


def summarise_sites(study: Study, frame: pd.DataFrame) -> list[SiteSummary]:
    """Return a summary of every site, under the split of the first seed."""
    words = as_text(frame[study.cohort.site])
    return [
        SiteSummary(
            name=site.name,
            train=len(site.train),
            test=len(site.test),
            missing_share=_missing_share(study, frame[words == site.name]),
            outcome=_outcome_words(
                study, Observed.concatenate([site.observed_train, site.observed])
            ),
        )
        for site in build_federation(study, frame, seed=0).sites
    ]


def _missing_share(study: Study, frame: pd.DataFrame) -> float:
    """Return the share of feature cells that are empty."""
    if frame.empty:
        return 0.0
    columns = [column for f in study.cohort.features for column in columns_of(f)]
    return float(np.mean([as_text(column_or_missing(frame, c)).isna().mean() for c in columns]))


def _outcome_words(study: Study, observed: Observed) -> str:
    known = observed.take(~np.isnan(observed.value))
    if known.value.size == 0:
        return "no outcome known"
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        return f"mean {known.value.mean():.3g} {outcome.unit}"
    if isinstance(outcome, Binary):
        return f"{100 * known.value.mean():.0f} % {outcome.column} = {outcome.positive}"
    middle = np.median(known.value)
    return f"{int(known.event.sum())} events, median follow-up {middle:.0f} {outcome.unit}"
