"""The report's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polyclinic_common.study import Study
from polyclinic_common.study.describe import Declared, declared_columns
from polyclinic_simulations.comparison import Comparison, Line
from polyclinic_simulations.measures import UNKNOWN, Measure, measure_of
from polyclinic_simulations.private_view import MenuRow, PrivateRow
from polyclinic_simulations.report.words import decimal, odds, suspicion, two_hospitals
from polyclinic_simulations.results import SiteSummary, mean_and_error


@dataclass(frozen=True)
class Column:
    """A heading; numbers are aligned right, words may wrap."""

    title: str
    number: bool = True


@dataclass(frozen=True)
class Row:
    """Cells as text, the first names the row; `look` is ``""``, ``headline`` or ``apart``."""

    cells: tuple[str, ...]
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption; `groups` are headings over several columns, with their width."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    groups: tuple[tuple[str, int], ...] = ()


def _words(*titles: str) -> tuple[Column, ...]:
    return tuple(Column(title, number=False) for title in titles)


def _numbers(*titles: str) -> tuple[Column, ...]:
    return tuple(Column(title) for title in titles)


def columns_table(study: Study) -> Table:
    """List the columns that are read, with their public ranges and sources."""
    shown = [d for d in declared_columns(study) if d.role in {"feature", "treatment", "outcome"}]
    rows = tuple(
        Row((d.name, d.role, d.what.removesuffix(", 0 to inf"), _source(study, d))) for d in shown
    )
    return Table(
        "What is known of each patient. Ranges and vocabularies are public: they come from the "
        "sources named, never from these patients.",
        _words("Column", "Role", "Kind, unit and range", "Source"),
        rows,
    )


def _source(study: Study, declared: Declared) -> str:
    if declared.feature is not None:
        return declared.feature.source
    if declared.role == "treatment" and study.treatment is not None:
        return study.treatment.source
    return study.outcome.source


def sites_table(sites: Sequence[SiteSummary]) -> Table:
    """List the sites with their data."""
    rows = [
        Row((s.name, str(s.train), str(s.test), f"{100 * s.missing_share:.1f} %", s.outcome))
        for s in sites
    ]
    if sites:
        train, test = sum(s.train for s in sites), sum(s.test for s in sites)
        rows.append(Row(("All hospitals", str(train), str(test), "", ""), "apart"))
    return Table(
        "Patients at each hospital (numbers of training and test patients: of the first run). "
        "Missing: share of the values of the columns above that are not recorded.",
        (*_words("Hospital"), *_numbers("Training", "Test", "Missing"), *_words("Outcome")),
        tuple(rows),
    )


def privacy_table(comparison: Comparison) -> Table:
    """List what every setting promised a patient, and what it spent."""
    informed = any(line.spent.epsilon_prv is not None for line in comparison.settings)
    summed = any(line.spent.sums is not None for line in comparison.settings)
    rows = []
    for line in comparison.settings:
        spent, promised = line.spent, line.spent.epsilon_promised
        prv = UNKNOWN if spent.epsilon_prv is None else f"{spent.epsilon_prv:.3g}"
        bounds = (*[UNKNOWN] * 3, "no bound", "no bound", "no bound")
        if spent.epsilon is not None and spent.delta is not None:
            bounds = (UNKNOWN if promised is None else f"{promised:.3g}", f"{spent.epsilon:.3g}",
                      decimal(spent.delta), f"× {odds(spent.epsilon)}",
                      suspicion(spent.epsilon), two_hospitals(spent) or UNKNOWN)  # fmt: skip
        look = "headline" if line is comparison.headline else ""
        fallback = UNKNOWN if spent.sums is None else f"{spent.sums.epsilon_fallback:.3g}"
        extra = (*([fallback] if summed else []), *([prv] if informed else []))
        cells = (line.mode or UNKNOWN, *bounds, *extra)
        rows.append(Row(cells, look))
    return Table(
        "What each setting that was run promised at most, and what its dearest run spent: less "
        "where training stopped early. The bounds are those of what was spent.",
        (
            *_words("Mode"),
            *_numbers(
                "ε promised",
                "ε spent",
                "δ",
                "Odds change by at most",
                "50 % suspicion becomes at most",
            ),
            *_numbers("ε spent, if in two hospitals' cohorts"),
            *_numbers(*(["ε spent at fallback, if all others collude"] if summed else [])),
            *_numbers(*(["ε by PRV, for information only"] if informed else [])),
        ),
        tuple(rows),
    )


def overall_table(comparison: Comparison, measures: Sequence[Measure]) -> Table:
    """List every setting and baseline with every metric, over patients and over sites."""
    rows = []
    for index, line in enumerate(comparison.settings + comparison.baselines):
        cells = [measure.text(line.overall(measure.key)) for measure in measures]
        cells += [measure.text(line.mean_of_sites(measure.key)) for measure in measures]
        epsilon = UNKNOWN if line.epsilon is None else f"{line.epsilon:g}"
        look = "headline" if line is comparison.headline else ""
        if index == len(comparison.settings):
            look = "apart"
        rows.append(Row((line.name + line.variant, line.mode or UNKNOWN, epsilon, *cells), look))
    headings = [measure.heading for measure in measures]
    return Table(
        "Above the line the models trained across the hospitals, below it what they are compared "
        "with, on the same test patients. Mean ± standard error over the runs.",
        (*_words("Model", "Mode"), *_numbers("ε promised", *headings, *headings)),
        tuple(rows),
        (("", 3), ("All test patients", len(measures)), ("Mean of hospitals", len(measures))),
    )


def private_table(found: Sequence[PrivateRow]) -> Table | None:
    """List the charged metrics beside the exact ones; None if none were released."""
    if not found:
        return None
    rows = [Row((row.group, row.model, row.metric, row.private, row.exact)) for row in found]
    return Table(
        "Private metrics at the end: what the hospitals released, paid for out of the same promise "
        "as training, with 95 % intervals that include sampling and noise. Exact: the same metric "
        "without noise, which only a simulation can know.",
        (*_words("Patients", "Model", "Metric"), *_numbers("Private (95 % interval)", "Exact")),
        tuple(rows),
    )


def menu_table(study: Study, tried: Sequence[MenuRow]) -> Table | None:
    """List the settings of the menu with the metric that decided; None without a menu."""
    if not tried:
        return None
    rows = [Row((row.setting, row.model, row.private, row.exact, row.chosen)) for row in tried]
    heading = measure_of(study, study.deciding_metric).heading
    return Table(
        f"The menu, by {heading}. Private: as the hospitals released it, with 95 % intervals. "
        "Exact: on all test patients, which only a simulation can know.",
        (
            *_words("Trained with", "Model"),
            *_numbers("Private (95 % interval)", "Exact"),
            *_words("Chosen"),
        ),
        tuple(rows),
    )


def group_table(
    lines: Sequence[Line],
    names: Sequence[str],
    read: Callable[[Line, str], list[float | None]],
    measure: Measure,
    kind: str,
    patients: dict[str, int] | None = None,
) -> Table:
    """List one metric by site or subgroup, a column a line."""
    rows = []
    for name in names:
        count = () if patients is None else (str(patients.get(name, UNKNOWN)),)
        rows.append(Row((name, *count, *(measure.text(read(line, name)) for line in lines))))
    counted = () if patients is None else _numbers("Test patients")
    spans = Counter(line.name for line in lines)
    return Table(
        f"{measure.heading} by {kind.lower()}, mean ± standard error over the runs.",
        (*_words(kind), *counted, *_numbers(*(line.setting for line in lines))),
        tuple(rows),
        (("", 1 + len(counted)), *spans.items()),
    )


def metrics_table(
    line: Line,
    names: Sequence[str],
    read: Callable[[Line, str, str], list[float | None]],
    measures: Sequence[Measure],
    kind: str,
) -> Table:
    """List every metric of one line by site or subgroup."""
    rows = tuple(
        Row((name, *(measure.text(read(line, name, measure.key)) for measure in measures)))
        for name in names
    )
    return Table(
        f"All metrics by {kind.lower()}: {line.label}.",
        (*_words(kind), *_numbers(*(measure.heading for measure in measures))),
        rows,
    )


def timing_table(comparison: Comparison) -> Table:
    """List how often and how long every setting ran."""
    rows = []
    for line in comparison.settings:
        cells = line.cells
        seeds = ", ".join(str(cell.seed) for cell in cells)
        engines = ", ".join(dict.fromkeys(cell.engine for cell in cells))
        rounds = ", ".join(dict.fromkeys(str(cell.timing.rounds) for cell in cells))
        train, _ = mean_and_error([cell.timing.train_s for cell in cells])
        total, _ = mean_and_error([cell.timing.total_s for cell in cells])
        rows.append(Row((line.label, engines, seeds, rounds, f"{train:.2f}", f"{total:.2f}")))
    return Table(
        "Runs and mean time of one run. The whole run includes evaluation and, with privacy, the "
        "hospitals on their own.",
        (
            *_words("Setting", "Engine", "Seeds"),
            *_numbers("Rounds", "Training (s)", "Whole run (s)"),
        ),
        tuple(rows),
    )
