"""What a study declares of each of its columns."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic_common.study.features import (
    Categorical,
    Diplotype,
    Feature,
    Hla,
    Numeric,
    Ordinal,
    Panel,
    Snp,
    columns_of,
)
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Arms, Binary, Survival
from polyclinic_common.study.sections import SplitColumn

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Declared:
    """What the contract declares of one column, or of all columns of one panel.

    Attributes
    ----------
    name : str
        The column, or the panel.
    columns : tuple of str
        The columns read: one, or those of the panel.
    role : str
        ``patient id``, ``site``, ``feature``, ``treatment``, ``outcome`` or ``split``.
    what : str
        Kind, unit and range or vocabulary in words.
    bounds : pair of float, optional
        Public range of a number; None for words.
    unit : str
        Unit of a number.
    words : tuple of str
        Vocabulary of words; empty where any word is allowed.
    feature : Feature, optional
        The declared feature.
    """

    name: str
    columns: tuple[str, ...]
    role: str
    what: str
    bounds: Bounds | None = None
    unit: str = ""
    words: tuple[str, ...] = ()
    feature: Feature | None = None


def declared_columns(study: Study) -> tuple[Declared, ...]:
    """Return what the study declares of each column, in the order of the manifest."""
    cohort, holdout = study.cohort, study.evaluation.holdout
    declared = [
        Declared(cohort.patient_id, (cohort.patient_id,), "patient id", "one row a patient"),
        Declared(cohort.site, (cohort.site,), "site", "read in simulation only"),
        *map(_declared_feature, cohort.features),
        *_declared_treatment(study),
        *_declared_outcome(study),
    ]
    if isinstance(holdout, SplitColumn):
        what = f"held out where {holdout.test}"
        declared.append(Declared(holdout.column, (holdout.column,), "split", what))
    return tuple(declared)


def _number(name: str, role: str, kind: str, unit: str, bounds: Bounds) -> Declared:
    what = f"{kind}, {unit}, {bounds[0]:g} to {bounds[1]:g}"
    return Declared(name, (name,), role, what, bounds=bounds, unit=unit)


def _word(name: str, role: str, kind: str, words: tuple[str, ...]) -> Declared:
    return Declared(name, (name,), role, f"{kind}: {', '.join(words)}", words=words)


def _labels_of(study: Study, column: str) -> dict[str, str]:
    """Return what the levels of a column or of the arms are called, where they have labels."""
    for feature in study.cohort.features:
        if feature.name == column and isinstance(feature, Categorical | Ordinal):
            return dict(feature.labels)
    treatment = study.treatment
    arms = isinstance(treatment, Arms) and treatment.column == column
    return dict(treatment.labels) if arms and isinstance(treatment, Arms) else {}


def _levels_in_words(levels: tuple[str, ...], labels: tuple[tuple[str, str], ...]) -> list[str]:
    """Return levels as they stand in tables, with what they are called in brackets."""
    called = dict(labels)
    return [f"{level} ({called[level]})" if level in called else level for level in levels]


def _declared_feature(feature: Feature) -> Declared:
    name, columns = feature.name, columns_of(feature)
    if isinstance(feature, Numeric | Panel):
        low, high = feature.range
        count = f" of {len(columns)} columns" if feature.kind == "panel" else ""
        what = f"{feature.kind}{count}, {feature.unit}, {low:g} to {high:g}"
        return Declared(
            name, columns, "feature", what, feature.range, feature.unit, feature=feature
        )
    if isinstance(feature, Snp):
        what = f"SNP: {feature.reference} (reference), {feature.effect} (effect)"
        return Declared(name, columns, "feature", what, feature=feature)
    if isinstance(feature, Diplotype):
        what = f"diplotype of {', '.join((feature.reference, *feature.alleles))}"
        return Declared(name, columns, "feature", what, feature=feature)
    if isinstance(feature, Hla):
        what = f"alleles of {feature.gene}: {', '.join(feature.alleles)}, or others"
        return Declared(name, columns, "feature", what, feature=feature)
    what = f"{feature.kind}: {', '.join(_levels_in_words(feature.levels, feature.labels))}"
    return Declared(name, columns, "feature", what, words=feature.levels, feature=feature)


def _declared_treatment(study: Study) -> list[Declared]:
    treatment = study.treatment
    if treatment is None:
        return []
    if isinstance(treatment, Arms):
        what = f"arms: {', '.join(_levels_in_words(treatment.arms, treatment.labels))}"
        column = treatment.column
        return [Declared(column, (column,), "treatment", what, words=treatment.arms)]
    return [_number(treatment.column, "treatment", "dose", treatment.unit, treatment.range)]


def _declared_outcome(study: Study) -> list[Declared]:
    outcome = study.outcome
    if isinstance(outcome, Survival):
        return [
            _number(outcome.time, "outcome", "time", outcome.unit, outcome.bounds),
            _word(outcome.event, "outcome", "event", (outcome.occurred, outcome.censored)),
        ]
    if isinstance(outcome, Binary):
        words = (outcome.positive, outcome.negative)
        return [_word(outcome.column, "outcome", "binary", words)]
    return [_number(outcome.column, "outcome", "continuous", outcome.unit, outcome.range)]
