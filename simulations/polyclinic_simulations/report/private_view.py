"""Private metrics beside the exact ones, as text: for the console and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.reading import GroupReading
from polyclinic_common.study import Study
from polyclinic_common.study.plain_words import group_in_words, menu_in_words, setting_in_words
from polyclinic_common.study.sections import MenuEntry
from polyclinic_simulations.report.comparison import Line
from polyclinic_simulations.report.measures import UNKNOWN, Measure, decimals, measure_of
from polyclinic_simulations.results.results import Cell, Metrics

EVERYBODY = "all test patients"
_SHARE = Measure("share", "share", "", "", unit="%", factor=100.0, decimals=1)
_AUC = Measure("auc", "AUC", "", "")


@dataclass(frozen=True)
class PrivateRow:
    """One metric of one group: what was released about it, and what is true.

    With several seeds `private` is that of the first, and `exact` says how far private values lie
    from exact ones on average.
    """

    model: str
    group: str
    metric: str
    private: str
    exact: str


@dataclass(frozen=True)
class MenuRow:
    """One setting of a menu: the metric that decides as released and exact, and the decision.

    With several seeds `private` is that of the first, `exact` the mean, and `chosen` counts.
    """

    model: str
    setting: str
    private: str
    exact: str
    chosen: str


def menu_rows(study: Study, lines: Sequence[Line]) -> list[MenuRow]:
    """Return every setting of the menu, for every line that trained one."""
    measure = measure_of(study, study.deciding_metric)
    rows = []
    for line in lines:
        for index, first in enumerate(line.cells[0].menu if line.cells else ()):
            tried = [cell.menu[index] for cell in line.cells]
            kept = sum(each.chosen for each in tried)
            chosen = (
                f"in {kept} of {len(tried)} runs" if len(tried) > 1 else "yes" if kept else "no"
            )
            private = UNKNOWN if line.epsilon is None else _text(measure, first.private)
            exact = measure.text([each.exact for each in tried])
            words = setting_in_words(study, index)
            rows.append(MenuRow(line.label, words, private, exact, chosen))
    return rows


def menu_words(study: Study, lines: Sequence[Line]) -> list[str]:
    """Say what was trained and what choosing cost, in the modes that were run."""
    if not study.training.menu:
        return []
    said: list[str] = []
    for mode in dict.fromkeys(line.mode for line in lines):
        privacy = study.privacy.model_copy(update={"mode": mode})
        said += menu_in_words(study.model_copy(update={"privacy": privacy}))
    own = study.trained_with(MenuEntry())
    said.append(
        "Hospitals on their own, and pooled data, train once, with the study's own setting "
        f"(learning rate {own.learning_rate:g}, momentum {own.training.momentum:g}) and, where "
        "there is a budget, all of it."
    )
    return list(dict.fromkeys(said))


def private_rows(study: Study, lines: Sequence[Line]) -> list[PrivateRow]:
    """Return the private metrics at the end of every setting that released any."""
    return [
        row
        for line in lines
        if line.cells and line.cells[0].private
        for row in _rows_of(study, line)
    ]


def _rows_of(study: Study, line: Line) -> list[PrivateRow]:
    rows: list[PrivateRow] = []
    for group in line.cells[0].private_groups:
        name = EVERYBODY if group.kind == "overall" else group_in_words(study, group.name)
        if group.suppressed:
            shown = f"too few ({group.patients:.0f} by the noisy count)"
            rows.append(PrivateRow(line.label, name, UNKNOWN, shown, UNKNOWN))
        for metric in group.metrics:
            measure = measure_of(study, metric)
            pairs = [_pair(cell, group.kind, group.name, metric) for cell in line.cells]
            shown = _text(measure, pairs[0][0])
            rows.append(
                PrivateRow(line.label, name, measure.heading, shown, _exact(measure, pairs))
            )
        rows += [PrivateRow(line.label, name, what, shown, UNKNOWN) for what, shown in _bins(group)]
    return rows


def _bins(group: GroupReading) -> list[tuple[str, str]]:
    """Return what is shown of calibration bins and of times."""
    rows = [
        (f"Observed where {each.low:.0%} to {each.high:.0%} predicted", _text(_SHARE, said))
        for each in group.calibration
        if (said := each.observed) is not None
    ]
    for each in group.times:
        rows.append(
            (
                f"Events up to {each.end:g}, of those at risk",
                f"{each.events:.0f} of {each.at_risk:.0f}",
            )
        )
        if each.observed is not None and each.predicted is not None:
            name = f"Without the event at {each.end:g}, where {each.predicted:.1%} is predicted"
            rows.append((name, _text(_SHARE, each.observed)))
        if each.auc is not None:
            rows.append((f"AUC at {each.end:g}", _text(_AUC, each.auc)))
    return rows


def verdict_words(line: Line) -> str:
    """Say how the hospitals voted on the models of a setting; empty where they did not."""
    verdicts = [cell.verdict for cell in line.cells if cell.verdict is not None]
    if not verdicts:
        return ""
    first = verdicts[0]
    words = (
        f"{first.in_favour} of {first.votes} randomised votes are in favour; an unbiased estimate "
        f"is {first.estimated:.1f}: {'accepted' if first.accepted else 'not accepted'}"
    )
    if len(verdicts) > 1:
        accepted = sum(verdict.accepted for verdict in verdicts)
        words += f" (accepted in {accepted} of {len(verdicts)} runs)"
    return words + "."


Pair = tuple[Reading | None, float | None]


def _pair(cell: Cell, kind: str, name: str, metric: str) -> Pair:
    group = cell.private_of(kind, name)
    reading = None if group is None else group.metrics.get(metric)
    return reading, exact_of(cell, kind, name).get(metric)


def exact_of(cell: Cell, kind: str, name: str) -> Metrics:
    """Return the exact scores of a group, of the model that private metrics judge."""
    scores = cell.broadcast or cell.test
    if kind == "overall":
        return scores.overall
    return (scores.by_site if kind == "site" else scores.by_subgroup).get(name, {})


def _text(measure: Measure, reading: Reading | None) -> str:
    if reading is None:
        return "lost in the noise"
    value, low, high = (
        decimals(number * measure.factor, measure.decimals)
        for number in (reading.value, reading.low, reading.high)
    )
    return f"{value} ({low} to {high})"


def _exact(measure: Measure, pairs: Sequence[Pair]) -> str:
    text = measure.text([pairs[0][1]])
    apart = [abs(said.value - true) for said, true in pairs if said and true is not None]
    if len(pairs) == 1 or not apart:
        return text
    return f"{text}; {measure.apart([fmean(apart)])} apart over {len(apart)} seeds"


def budget_words(line: Line) -> str:
    """Tell apart what a setting promised every patient, and what its dearest run spent."""
    spent, rounds = line.spent, [cell.timing.rounds for cell in line.cells]
    if spent.epsilon is None:
        return ""
    promised = "" if spent.epsilon_promised is None else _promised(spent.epsilon_promised)
    dearest = " at most" if len(rounds) > 1 and len(set(rounds)) > 1 else ""
    told = f" (in runs of {min(rounds)} to {max(rounds)} rounds)" if dearest else ""
    return f"{promised}spent was{dearest} ε = {spent.epsilon:.3f}{told}"


def _promised(epsilon: float) -> str:
    return f"every patient was promised ε = {epsilon:.3f} at most, "
