"""Results by site or by subgroup: a plot, and tables no wider than a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from polyclinic_common.study import Study
from polyclinic_common.study.plain_words import group_in_words
from polyclinic_simulations.report import score_plots, tables
from polyclinic_simulations.report.comparison import Comparison, Line
from polyclinic_simulations.report.drawing import Plot
from polyclinic_simulations.report.measures import Measure
from polyclinic_simulations.report.tables import Table
from polyclinic_simulations.results.results import Result

Read = Callable[[Line, str, str], list[float | None]]


@dataclass(frozen=True)
class Groups:
    """Results by site or by subgroup."""

    tables: list[Table]
    more: Table | None
    plot: Plot


def by_site(
    study: Study, result: Result, comparison: Comparison, measures: list[Measure]
) -> Groups | None:
    """Return results by hospital; None where no hospital has any."""
    patients: dict[str, int] | None = {site.name: site.test for site in result.sites}
    names = list(patients or {})
    if comparison.headline.sites is not None:  # made-up hospitals: sizes are not those of the study
        first = next(iter(comparison.headline.scores.values()))
        patients, names = None, list(first.by_site)
    return _groups(study, comparison, names, Line.at_site, measures, "Hospital", patients)


def by_subgroup(study: Study, comparison: Comparison, measures: list[Measure]) -> Groups | None:
    """Return results by subgroup; None where no subgroup has any."""
    names = comparison.subgroups
    return _groups(study, comparison, names, Line.in_subgroup, measures, "Subgroup", None)


def _groups(
    study: Study,
    comparison: Comparison,
    names: Sequence[str],
    read: Read,
    measures: list[Measure],
    kind: str,
    patients: dict[str, int] | None,
) -> Groups | None:
    """Return tables and plot of the groups in which anything is defined."""
    main, lines = measures[0], _columns(comparison)
    read_main = partial(_read, read, main.key)
    called = {
        name: name if kind == "Hospital" else group_in_words(study, name)
        for name in names
        if any(value is not None for line in lines for value in read_main(line, name))
    }
    if not called:
        return None
    nobody = comparison.baseline("nobody")
    head = comparison.headline
    return Groups(
        tables.group_tables(lines, called, read_main, main, kind, patients),
        tables.metrics_table(head, called, read, measures, kind, nobody)
        if len(measures) > 1
        else None,
        score_plots.groups_plot(_beside(comparison), called, read_main, main, f"by-{kind.lower()}"),
    )


def _read(read: Read, metric: str, line: Line, name: str) -> list[float | None]:
    return read(line, name, metric)


def _beside(comparison: Comparison) -> list[Line]:
    """Return the lines that are shown by group in plots."""
    alone = comparison.baseline("local_only_non_private")
    lines = [comparison.headline, comparison.open, alone]
    return list({line.label: line for line in lines if line is not None}.values())


def _columns(comparison: Comparison) -> list[Line]:
    """Return the lines that are shown by group in tables."""
    alone = comparison.baseline("local_only_non_private")
    same = [line for line in comparison.settings if line.sites == comparison.headline.sites]
    common = [line for line in comparison.baselines if line.key == "broadcast"]
    return [*same, *common, *([alone] if alone else [])]
