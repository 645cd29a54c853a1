"""Tables that compare: differences with intervals, published formulas, predicted and observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Survival
from polyclinic_simulations.report.calibration import Calibration, calibration_of
from polyclinic_simulations.report.comparison import Comparison, Line
from polyclinic_simulations.report.differences import beside_formulas, difference
from polyclinic_simulations.report.measures import UNKNOWN, Measure, decimals
from polyclinic_simulations.report.tables import Row, Table, number_columns, word_columns
from polyclinic_simulations.results.intervals import Gap


def differences_table(comparison: Comparison, measure: Measure) -> Table | None:
    """List how far the headline is from everything else, with intervals; None where undefined."""
    head = comparison.headline
    rows = []
    for line in (*comparison.settings, *comparison.rivals(measure.key)):
        found = None if line is head or line.note else difference(head, line, measure.key)
        if found is not None:
            rows.append(Row((line.label, *_difference_cells(found, measure))))
    if not rows:
        return None
    return Table(
        f"{measure.heading}: {head.label}, minus each other model, on the same test patients. The "
        "95 % intervals hold the choice of test patients and the noise; clear where they leave out "
        "zero.",
        (
            *word_columns("Compared with"),
            *number_columns(
                "Difference",
                "95 % interval",
                "Standard error, test patients",
                "Standard error, noise",
                "Clear",
            ),
        ),
        tuple(rows),
    )


def _difference_cells(found: Gap, measure: Measure) -> tuple[str, ...]:
    parts = [
        UNKNOWN if part is None else decimals(part**0.5 * measure.factor, measure.decimals)
        for part in (found.sampling, found.noise)
    ]
    interval = UNKNOWN if found.interval is None else measure.interval(*found.interval)
    clear = "yes" if found.clear else UNKNOWN if found.interval is None else "no"
    return measure.text([found.mean]), interval, *parts, clear


def formulas_table(comparison: Comparison, measure: Measure) -> Table | None:
    """List published formulas beside every setting on the same patients; None without formulas."""
    rows = []
    for setting in comparison.settings:
        for beside in beside_formulas(comparison, setting):
            found = difference(beside.setting, beside.formula, measure.key)
            shown = (UNKNOWN, UNKNOWN) if found is None else _difference_cells(found, measure)[:2]
            cells = (
                beside.formula.formula,
                setting.label,
                f"{beside.patients} of {beside.everybody}",
                measure.text(beside.formula.overall(measure.key)),
                measure.text(beside.setting.overall(measure.key)),
                *shown,
                measure.text(setting.overall(measure.key)),
            )
            rows.append(Row(cells, "headline" if setting is comparison.headline else ""))
    if not rows:
        return None
    return Table(
        f"{measure.heading} of published formulas and models on the same patients: those for whom "
        "the formula has every value that it needs. Difference: model minus formula, with its 95 % "
        "interval (choice of test patients, and noise).",
        (
            *word_columns("Published formula", "Model"),
            *number_columns(
                "Patients",
                "Formula",
                "Model, same patients",
                "Difference",
                "95 % interval",
                "Model, all test patients",
            ),
        ),
        tuple(rows),
    )


def calibration_table(study: Study, lines: Sequence[Line]) -> Table | None:
    """List observed and predicted shares in total and by fifth, and slopes; None without any."""
    found = [(line, each) for line in lines if (each := calibration_of(study, line)) is not None]
    if not found:
        return None
    survival = isinstance(study.outcome, Survival)
    places = min(len(each.fifths) for _, each in found)
    names = [f"fifth {place + 1} of prediction" for place in range(places)]
    rows = [
        Row((name, *(text for _, each in found for text in _count_cells(each, place))))
        for place, name in zip((None, *range(places)), ("all test patients", *names), strict=True)
    ]
    slopes = [cell for _, each in found for cell in (_slope_cell(each), "", "")]
    rows.append(Row(("calibration slope (1 is right)", *slopes), "apart"))
    what = "Events while at risk" if survival else "Patients with the outcome"
    return Table(
        f"{what}, in percent of the patients, mean of the runs: predicted, observed, and predicted "
        "as a multiple of observed. The slope is that of the outcome on the model's score, with "
        "its 95 % interval: above 1 predictions lie too close together.",
        (
            *word_columns("Patients"),
            *(number_columns("Predicted", "Observed", "Multiple") * len(found)),
        ),
        tuple(rows),
        (("", 1), *((line.label, 3) for line, _ in found)),
    )


def _count_cells(found: Calibration, place: int | None) -> tuple[str, ...]:
    count = found.total if place is None else found.fifths[place]
    shares = (100.0 * part / count.patients for part in (count.expected, count.observed))
    multiple = decimals(count.ratio, 2) if count.observed > 0.0 else UNKNOWN
    return (*(decimals(share, 1) for share in shares), multiple)


def _slope_cell(found: Calibration) -> str:
    if found.slope is None or found.slope_half is None:
        return UNKNOWN
    low, high = found.slope - found.slope_half, found.slope + found.slope_half
    return f"{decimals(found.slope, 2)} ({decimals(low, 2)} to {decimals(high, 2)})"


def times_table(study: Study, line: Line) -> Table | None:
    """List predicted and observed events at every time of the grid; None unless survival."""
    runs = [found for cell in line.cells if (found := cell.figures.reliability) and found.by_time]
    if not isinstance(study.outcome, Survival) or not runs:
        return None
    rows = []
    for place, first in enumerate(runs[0].by_time):
        predicted, observed = (
            float(np.mean([getattr(run.by_time[place], name) for run in runs]))
            for name in ("predicted", "observed")
        )
        multiple = decimals(predicted / observed, 2) if observed > 0.0 else UNKNOWN
        shares = (f"{decimals(100.0 * share, 1)} %" for share in (predicted, observed))
        rows.append(Row((f"{first.time:g}", *shares, multiple)))
    return Table(
        f"{line.label}: share of patients with {study.outcome.event} by each time of the grid, "
        "predicted and by Kaplan-Meier, mean of the runs.",
        (
            *word_columns(f"Time ({study.outcome.unit})"),
            *number_columns("Predicted", "Observed", "Multiple"),
        ),
        tuple(rows),
    )
