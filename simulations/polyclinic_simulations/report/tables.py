"""The report's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from polyclinic_common.study import Study
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_simulations.report.comparison import Comparison, Line
from polyclinic_simulations.report.measures import UNKNOWN, Measure, measure_of
from polyclinic_simulations.report.private_view import MenuRow, PrivateRow
from polyclinic_simulations.report.words import decimal, odds, suspicion, two_hospitals
from polyclinic_simulations.results.results import SiteSummary, mean_and_error

ABREAST = 5


@dataclass(frozen=True)
class Column:
    """A heading; numbers are aligned right, words may wrap unless they are `short`."""

    title: str
    number: bool = True
    short: bool = False


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


def word_columns(*titles: str) -> tuple[Column, ...]:
    """Return columns of words."""
    return tuple(Column(title, number=False) for title in titles)


def number_columns(*titles: str) -> tuple[Column, ...]:
    """Return columns of numbers."""
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
        word_columns("Column", "Role", "Kind, unit and range", "Source"),
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
        (
            *word_columns("Hospital"),
            *number_columns("Training", "Test", "Missing"),
            *word_columns("Outcome"),
        ),
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
            Column("Mode", number=False, short=True),
            *number_columns(
                "ε promised",
                "ε spent",
                "δ",
                "Odds change by at most",
                "50 % suspicion becomes at most",
            ),
            *number_columns("ε spent, if in two hospitals' cohorts"),
            *number_columns(*(["ε spent at fallback, if all others collude"] if summed else [])),
            *number_columns(*(["ε by PRV, for information only"] if informed else [])),
        ),
        tuple(rows),
    )


def overall_table(comparison: Comparison, measures: Sequence[Measure]) -> Table:
    """List every setting and baseline with every metric, over patients and over sites."""
    rows = []
    shown = [line for line in comparison.baselines if _is_defined(line, measures)]
    for index, line in enumerate([*comparison.settings, *shown]):
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
        "with; on all test patients, but for formulas that say otherwise. Mean ± standard error "
        "over the runs; a figure without ± is of one run, or the same in each.",
        (
            *word_columns("Model"),
            Column("Mode", number=False, short=True),
            *number_columns("ε promised", *headings, *headings),
        ),
        tuple(rows),
        (("", 3), ("All test patients", len(measures)), ("Mean of hospitals", len(measures))),
    )


def _is_defined(line: Line, measures: Sequence[Measure]) -> bool:
    values = [value for measure in measures for value in line.overall(measure.key)]
    return any(value is not None for value in values)


def private_table(found: Sequence[PrivateRow]) -> Table | None:
    """List the charged metrics beside the exact ones; None if none were released."""
    if not found:
        return None
    rows = [Row((row.group, row.model, row.metric, row.private, row.exact)) for row in found]
    return Table(
        "Private metrics at the end: what the hospitals released, paid for out of the same promise "
        "as training, with 95 % intervals that include sampling and noise. Exact: the same metric "
        "without noise, which only a simulation can know.",
        (
            *word_columns("Patients", "Model", "Metric"),
            *number_columns("Private (95 % interval)", "Exact"),
        ),
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
            *word_columns("Trained with", "Model"),
            *number_columns("Private (95 % interval)", "Exact"),
            *word_columns("Chosen"),
        ),
        tuple(rows),
    )


def group_tables(
    lines: Sequence[Line],
    names: Mapping[str, str],
    read: Callable[[Line, str], list[float | None]],
    measure: Measure,
    kind: str,
    patients: dict[str, int] | None = None,
) -> list[Table]:
    """List one metric by site or subgroup, a column a line; as many tables as fit a page's width.

    `names` are the groups with what they are called.
    """
    return [
        _group_table(part, names, read, measure, kind, patients) for part in _page_widths(lines)
    ]


def _page_widths(lines: Sequence[Line]) -> list[list[Line]]:
    """Cut lines into parts of at most `ABREAST`: a mode each, those without privacy together."""
    modes: dict[str, list[Line]] = {}
    for line in lines:
        modes.setdefault("" if line.epsilon is None else line.mode or "", []).append(line)
    if len(lines) <= ABREAST:
        return [list(lines)]
    return [
        part[start : start + ABREAST]
        for part in modes.values()
        for start in range(0, len(part), ABREAST)
    ]


def _group_table(
    lines: Sequence[Line],
    names: Mapping[str, str],
    read: Callable[[Line, str], list[float | None]],
    measure: Measure,
    kind: str,
    patients: dict[str, int] | None,
) -> Table:
    rows = []
    for name, called in names.items():
        count = () if patients is None else (str(patients.get(name, UNKNOWN)),)
        rows.append(Row((called, *count, *(measure.text(read(line, name)) for line in lines))))
    counted = () if patients is None else number_columns("Test patients")
    spans = [(name, len(list(same))) for name, same in groupby(lines, key=lambda line: line.name)]
    return Table(
        f"{measure.heading} by {kind.lower()}, mean ± standard error over the runs.",
        (
            *word_columns(kind),
            *counted,
            *number_columns(*(line.setting or line.name for line in lines)),
        ),
        tuple(rows),
        (("", 1 + len(counted)), *spans),
    )


def metrics_table(
    line: Line,
    names: Mapping[str, str],
    read: Callable[[Line, str, str], list[float | None]],
    measures: Sequence[Measure],
    kind: str,
    nobody: Line | None = None,
) -> Table:
    """List every metric of one line by site or subgroup; beside accuracy that of `nobody`."""
    columns = [(measure.heading, line, measure) for measure in measures]
    columns += [
        (f"{measure.heading} of {nobody.name.lower()}", nobody, measure)
        for measure in measures
        if measure.key == "accuracy" and nobody is not None
    ]
    rows = tuple(
        Row((called, *(each.text(read(of, name, each.key)) for _, of, each in columns)))
        for name, called in names.items()
    )
    return Table(
        f"All metrics by {kind.lower()}: {line.label}.",
        (*word_columns(kind), *number_columns(*(heading for heading, _, _ in columns))),
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
            *word_columns("Setting", "Engine", "Seeds"),
            *number_columns("Rounds", "Training (s)", "Whole run (s)"),
        ),
        tuple(rows),
    )
