"""Put sentences, tables and plots together into one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from polyclinic_common.study import Study
from polyclinic_common.study.plain_words import (
    hospitals_in_words,
    outcome_in_words,
    treatment_in_words,
)
from polyclinic_simulations.federation.hospitals import bypassed
from polyclinic_simulations.report import (
    calibration_words,
    comparison_tables,
    groups,
    patient_plots,
    score_plots,
    tables,
    verdicts,
    words,
)
from polyclinic_simulations.report.comparison import Comparison, Line, compare
from polyclinic_simulations.report.drawing import Plot, style
from polyclinic_simulations.report.measures import Measure, measures_of
from polyclinic_simulations.report.private_view import (
    menu_rows,
    menu_words,
    private_rows,
    verdict_words,
)
from polyclinic_simulations.report.tables import Table
from polyclinic_simulations.results.results import PrivacySpent, Result

LIBRARIES = ("torch", "opacus", "flwr", "numpy", "scipy", "pandas", "lifelines")
Facts = list[tuple[str, str]]
Tile = tuple[str, str, str]

BASELINES = {
    "Own hospital only": "every test patient is judged by a model trained at the patient's own "
    "hospital alone, with the same privacy or with none: the hospital that stays out",
    "Pooled data, same training": "all training patients in one place, the same training without "
    "privacy: what the hospitals give up by not sharing data",
    "Pooled data, fully fitted": "all training patients in one place, fitted until nothing "
    "changes any more: the best this kind of model can do",
    "Cox model, pooled data": "Cox's proportional hazards model, the standard of survival "
    "analysis, fitted to the pooled data",
    "Published": "a formula from the literature, not fitted here",
    "Same prediction for everybody": "the mean outcome of the training patients, whoever the "
    "patient is: a model has to beat it",
    "Always answering no": "no patient is predicted to have the outcome; what an accuracy has to "
    "beat",
}


@dataclass(frozen=True)
class Findings:
    """Everything on the page that needs at least one finished run."""

    conclusion: str
    verdicts: list[str]
    measure: str
    tiles: list[Tile]
    spread: str
    modes: list[str]
    epsilon: str
    sums: str
    bypassed: Sequence[str]
    two_hospitals: str
    prv: str
    spent: PrivacySpent
    privacy: Table
    overall: Table
    nobody: str
    differences: Table | None
    beside_formulas: Table | None
    menu: Table | None
    menu_words: list[str]
    private: Table | None
    verdict: str
    formulas: list[str]
    overview: Plot
    trade_off: Plot | None
    by_site: groups.Groups | None
    by_subgroup: groups.Groups | None
    gap: str
    learning: Plot | None
    calibration: Plot | None
    miscalibrated: str
    reliability: Table | None
    by_time: Table | None
    joint: Plot | None
    survival: Plot | None
    baselines: Facts
    timing: Table


def write_report(study: Study, result: Result, path: Path) -> None:
    """Write the report of a simulation as one HTML file that needs nothing else.

    Parameters
    ----------
    study : Study
        What was asked.
    result : Result
        What was found; cells, baselines, metrics and plots' data may be missing.
    path : Path
        The file to write; its folder exists.
    """
    path.write_text(render_report(study, result), encoding="utf-8")


def render_report(study: Study, result: Result) -> str:
    """Return the report as HTML text; see `write_report`."""
    environment = Environment(
        loader=PackageLoader("polyclinic_simulations.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measures = measures_of(study, result.main_metric)
    comparison = compare(study, result)
    with style():
        sites_plot = patient_plots.sites_plot(result.sites)
        findings = None if comparison is None else _findings(study, result, comparison, measures)
    return environment.get_template("template.html.j2").render(
        study=study,
        result=result,
        asked=_asked(study),
        columns=tables.columns_table(study),
        sites=tables.sites_table(result.sites),
        sites_plot=sites_plot,
        found=findings,
        made=_made(study, result),
        metrics=[(measure.heading, measure.meaning) for measure in measures],
    )


def _findings(
    study: Study, result: Result, comparison: Comparison, measures: list[Measure]
) -> Findings:
    head, main = comparison.headline, measures[0]
    promise = next((line for line in comparison.private if line is head), None)
    promise = promise or next(iter(comparison.private), head)
    spent = promise.spent
    used = [line.name.partition(":")[0] for line in comparison.baselines]
    return Findings(
        conclusion=words.conclusion(comparison, measures, len(study.training_sites)),
        verdicts=verdicts.verdicts(comparison, main),
        measure=main.axis,
        tiles=_tiles(comparison, measures),
        spread=words.spread_words(study, head, main),
        modes=[words.MODES[mode] for mode in _modes(comparison) if mode in words.MODES],
        epsilon=words.epsilon_words(spent),
        sums=words.sum_words(spent),
        bypassed=bypassed(result.cells[0].engine, result.cells[0].gradients),
        two_hospitals=words.two_hospitals_words(spent),
        prv=words.prv_words(spent),
        spent=spent,
        privacy=tables.privacy_table(comparison),
        overall=tables.overall_table(comparison, measures),
        nobody=verdicts.nobody_words(comparison, measures),
        differences=comparison_tables.differences_table(comparison, main),
        beside_formulas=comparison_tables.formulas_table(comparison, main),
        menu=tables.menu_table(study, menu_rows(study, comparison.settings)),
        menu_words=menu_words(study, comparison.settings),
        private=tables.private_table(private_rows(study, comparison.private)),
        verdict=verdict_words(promise),
        formulas=verdicts.formula_words(comparison),
        overview=score_plots.overview_plot(comparison, main),
        trade_off=_trade_off(comparison, main),
        by_site=groups.by_site(study, result, comparison, measures),
        by_subgroup=groups.by_subgroup(study, comparison, measures),
        gap=words.gap_words(study, comparison, main),
        learning=score_plots.learning_plot(comparison, main),
        calibration=patient_plots.calibration_plot(study, comparison),
        miscalibrated=calibration_words.warning(study, comparison),
        reliability=comparison_tables.calibration_table(study, _calibrated(comparison)),
        by_time=comparison_tables.times_table(study, head),
        joint=patient_plots.joint_plot(study, head),
        survival=patient_plots.survival_plot(study, head),
        baselines=[(name, meaning) for name, meaning in BASELINES.items() if name in used],
        timing=tables.timing_table(comparison),
    )


def _modes(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(line.mode or "" for line in comparison.settings))


def _trade_off(comparison: Comparison, main: Measure) -> Plot | None:
    epsilons = {line.epsilon for line in comparison.private}
    return score_plots.privacy_utility_plot(comparison, main) if len(epsilons) > 1 else None


def _tiles(comparison: Comparison, measures: list[Measure]) -> list[Tile]:
    """Return the few figures that stand on top of the page."""
    head, main = comparison.headline, measures[0]
    lines = [
        head,
        comparison.baseline("pooled_converged"),
        comparison.baseline("local_only_private"),
        comparison.baseline("local_only_non_private"),
    ]
    tiles = [(line.label, main.text(line.overall(main.key)), main.unit) for line in lines if line]
    brier = next((each for each in measures[1:] if each.key == "brier"), None)
    if brier is not None:
        said = f"{head.label}: Brier score (lower is better)"
        tiles.insert(1, (said, brier.text(head.overall("brier")), ""))
    return tiles


def _calibrated(comparison: Comparison) -> list[Line]:
    """Return the lines whose calibration is shown."""
    lines = [comparison.headline, comparison.open]
    return list({line.label: line for line in lines if line is not None}.values())


def _asked(study: Study) -> Facts:
    subgroups = ", ".join(subgroup.column for subgroup in study.subgroups)
    return [
        ("Outcome", outcome_in_words(study)),
        ("Treatment", treatment_in_words(study)),
        ("Hospitals", hospitals_in_words(study)),
        ("Test patients", words.holdout_words(study)),
        ("Rounds of training", _rounds(study)),
        ("Subgroups reported apart by", subgroups or "none"),
        ("Study", f"{study.id} {study.version}"),
    ]


def _rounds(study: Study) -> str:
    count = len(study.training.menu)
    each = f": {study.training.rounds} for each of {count} settings" if count else ""
    return f"{study.rounds}{each}"


def _made(study: Study, result: Result) -> Facts:
    hidden = " and ".join(map(str, study.model.hidden))
    model = f"multilayer perceptron, {hidden} hidden units" if hidden else "linear"
    indicator = ", with an indicator of the hospital" if study.cohort.site_indicator else ""
    return [
        ("Model", f"{model}{indicator}; {study.loss} loss"),
        ("Training", f"clip {study.clip:g} (private modes), learning rate "
         f"{study.learning_rate:g}, momentum {study.training.momentum:g}"
         f"{'; the menu overrides these' if study.training.menu else ''}"),
        ("Gradients", " and ".join(sorted({cell.gradients for cell in result.cells})) or "none"),
        ("Started from", "the study's public base rates" if result.warm_start is None
         else f"{result.warm_start}: outside the guarantee, if fitted on these patients"
         + "".join(f"; {line}" for line in result.warm_start_columns)),
        ("Polyclinic", result.version),
        ("Libraries when this page was written",
         ", ".join(f"{name} {version(name)}" for name in LIBRARIES)),
    ]  # fmt: skip
