"""How good a released model is, in words and small tables of its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyclinic_common.bundle.bias import LOST, TOO_FEW, BiasTable
from polyclinic_common.bundle.card import Value
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.envelope import Facts
from polyclinic_common.bundle.figures import (
    Figure,
    Scale,
    Table,
    metric_figure,
    metric_scale,
    scaled,
)
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.reading import GroupReading
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival

NOT_RELEASED = "No metric was released: how good the model is, is not known."


@dataclass(frozen=True)
class Known:
    """Everything that the card is made of, but for what people write.

    Attributes
    ----------
    study : Study
        The study that was trained.
    facts : Facts
        Run, version and day.
    evaluation : Evaluation
        What is known of how good the model is.
    certificate : Certificate
        What it has cost.
    declared : mapping of str to int
        Declared patients of every hospital.
    bias : tuple of BiasTable
        Of :func:`polyclinic_common.bundle.bias.bias_tables`.
    """

    study: Study
    facts: Facts
    evaluation: Evaluation
    certificate: Certificate
    declared: Mapping[str, int]
    bias: tuple[BiasTable, ...]


def performance(known: Known) -> tuple[Figure, ...]:
    """Return the released metrics of all patients."""
    group = known.evaluation.overall
    return () if group is None else _figures(known.study, group)


def main_figure(known: Known) -> str:
    """Say in one sentence how good the model is, by the first metric that is known."""
    for each in performance(known):
        if each.reading is not None:
            return f"{each.scale.name}: {each.scale.text(each.reading)}, with its 95 % interval."
    study, exact = known.study, known.evaluation.exact
    name = next((name for name in study.metrics if name in exact), None)
    if name is None:
        return NOT_RELEASED
    scale = metric_scale(study, METRICS[name])
    return f"{scale.name}: {_exact(study, name, exact[name])}, known in the simulation alone."


def _figures(study: Study, group: GroupReading) -> tuple[Figure, ...]:
    return tuple(
        metric_figure(study, name, group.metrics[name]) for name in METRICS if name in group.metrics
    )


def fairness_words(known: Known) -> Value:
    """Say which groups were looked at, and which stand out or cannot be judged."""
    study = known.study
    if not study.subgroups:
        return "No subgroup was declared: performance in groups of patients was not looked at."
    columns = ", ".join(dict.fromkeys(each.column for each in study.subgroups))
    if not known.bias:
        return f"Subgroups are declared by {columns}, but no figure of them was released."
    return (
        f"Looked at: performance and calibration by {columns}. Nothing was done in training to "
        "make groups alike.",
        "Noise and the bound on one patient weigh more on small groups.",
        *_standing_out(known.bias),
    )


def _standing_out(bias: tuple[BiasTable, ...]) -> list[str]:
    """Name the groups that stand out, and those that cannot be judged; claim nothing of others."""
    rows = [(table, row) for table in bias for row in table.rows[1:]]
    worse = [
        f"{row.group}: {table.scale.name} {row.judgement}"
        for table, row in rows
        if row.judgement.startswith("worse")
    ]
    unknown = list(dict.fromkeys(row.group for _, row in rows if row.judgement in {TOO_FEW, LOST}))
    lines = ["Worse than all patients, beyond its 95 % interval: " + "; ".join(worse) + "."]
    if not worse:
        lines = ["No group's gap is clear of its 95 % interval on the worse side; that does not "
                 "show that there is none."]  # fmt: skip
    if unknown:
        lines.append(f"Cannot be judged, altogether or in part: {', '.join(unknown)}.")
    return lines


def patients_table(known: Known) -> Value:
    """Return the declared patients of every hospital."""
    return Table(
        caption="Declared patients of every hospital, training and held out together. Hospitals "
        "round their number and nobody checks it; how many had the outcome is not known.",
        columns=("Hospital", "Declared patients"),
        rows=(
            *((site, f"{patients:,}") for site, patients in known.declared.items()),
            ("all", f"{sum(known.declared.values()):,}"),
        ),
    )


def performance_table(known: Known) -> Value:
    """Return the metrics of all patients, released and (in a simulation) exact."""
    exact = known.evaluation.exact
    group = known.evaluation.overall
    if group is None and not exact:
        return NOT_RELEASED
    released = "released, with noise"
    shown = [(each.scale.name, _text(each), released) for each in performance(known)]
    if group is not None and group.suppressed:
        shown.append(("All metrics", TOO_FEW, released))
    shown += [
        (metric_scale(known.study, METRICS[name]).name, _exact(known.study, name, value),
         "exact: only a simulation can know it")
        for name, value in exact.items()
        if name in METRICS
    ]  # fmt: skip
    return Table(
        caption="Performance on held-out patients, with 95 % intervals that include noise and "
        "chance",
        columns=("Metric", "All patients", "How it is known"),
        rows=tuple(shown),
    )


def _exact(study: Study, name: str, value: float) -> str:
    metric = METRICS[name]
    scale = metric_scale(study, metric)
    return f"{metric.factor * value:.{scale.decimals}f} {scale.unit}".strip()


def calibration_table(known: Known) -> Value:
    """Return predicted against observed outcomes of all patients."""
    group = known.evaluation.overall
    if group is None or not (group.calibration or group.times):
        return "No figure of calibration was released."
    if group.times:
        return _calibration_in_time(known.study, group)
    scale = Scale(name="share", unit="%", decimals=1)
    return Table(
        caption="Of the patients with a predicted probability in a range: how many had the outcome",
        columns=("Predicted", "Observed (95 % interval)"),
        rows=tuple(
            (
                f"{100 * each.low:.1f} to {100 * each.high:.1f} %",
                TOO_FEW if each.observed is None else scale.text(scaled(each.observed, 100.0)),
            )
            for each in group.calibration
        ),
    )


def _calibration_in_time(study: Study, group: GroupReading) -> Table:
    unit = study.outcome.unit if isinstance(study.outcome, Survival) else ""
    scale = Scale(name="share", unit="%", decimals=1)
    return Table(
        caption="Patients without the event at each time: predicted on average, and observed",
        columns=("Time", "Predicted", "Observed (95 % interval)"),
        rows=tuple(
            (
                f"{each.end:g} {unit}",
                "not known" if each.predicted is None else f"{100 * each.predicted:.1f} %",
                TOO_FEW if each.observed is None else scale.text(scaled(each.observed, 100.0)),
            )
            for each in group.times
        ),
    )


def hospitals_table(known: Known) -> Value:
    """Return the metrics of every hospital, where they were released."""
    groups = [group for group in known.evaluation.groups if group.kind == "site"]
    if not groups:
        return "No figure by hospital was released."
    names = [name for name in METRICS if any(name in group.metrics for group in groups)]
    scales = [metric_scale(known.study, METRICS[name]) for name in names]
    return Table(
        caption="Performance at each hospital, with 95 % intervals",
        columns=("Hospital", *([scale.name for scale in scales] or ["Performance"])),
        rows=tuple((group.name, *_cells(known.study, group, names)) for group in groups),
    )


def _cells(study: Study, group: GroupReading, names: list[str]) -> list[str]:
    if group.suppressed:
        return [TOO_FEW for _ in names or [""]]
    figures = (metric_figure(study, name, group.metrics.get(name)) for name in names)
    return [_text(each) for each in figures]


def _text(figure: Figure) -> str:
    return LOST if figure.reading is None else figure.scale.text(figure.reading)


def votes_words(known: Known) -> Value:
    """Say what the hospitals' votes say."""
    verdict = known.evaluation.verdict
    return "The study asks for no votes." if verdict is None else verdict.sentence
