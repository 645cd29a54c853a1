"""Declared subgroups beside all patients: performance, calibration, and the gap between.

The gap of a group is its figure minus that of all patients. Its 95 % interval comes from the ends
of both intervals as if the two figures were independent: with g, o the figures and l, u their ends,

    g - o - sqrt((g - l_g)^2 + (u_o - o)^2)   to   g - o + sqrt((u_g - g)^2 + (o - l_o)^2)

(Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702, section 2). They are not independent: a
group's patients are among all patients. For a mean over a share w of the patients with the same
spread everywhere, sampling gives the gap the variance (1 - w)/w instead of (1 + w)/w, in units of
that of the whole: the interval is too wide, the more so the larger the group. The noise on the two
figures is independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from polyclinic_common.bundle.certificate import Record
from polyclinic_common.bundle.figures import (
    Figure,
    Scale,
    Table,
    metric_figure,
    metric_scale,
    scaled,
)
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.metrics import METRICS, Metric
from polyclinic_common.evaluation.observed import subgroup_names
from polyclinic_common.evaluation.reading import BinReading, GroupReading
from polyclinic_common.evaluation.survival_reading import TimeReading
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival
from polyclinic_common.study.plain_words import group_in_words

TOO_FEW = "too few patients to judge"
LOST = "lost in the noise: cannot be judged"
NOTHING_BESIDE = "no figure of all patients to compare with"
ALL = "all patients"
ABOUT_GAPS = (
    "Gap: the group minus all patients. Its 95 % interval treats the two figures as independent; "
    "as the group is part of all patients, it is too wide rather than too narrow. Among twenty "
    "groups without any true gap, one is expected to stand out by chance."
)


class BiasRow(Record):
    """What is known of one group of patients, in one place of its calibration or altogether.

    Attributes
    ----------
    group : str
        The group, in words.
    place : str
        Which predictions or which time, of a calibration; empty for performance.
    value, gap : Reading or None
        The figure, and how far it lies from that of all patients; None where not known.
    judgement : str
        What can be said.
    """

    group: str
    place: str = ""
    value: Reading | None = None
    gap: Reading | None = None
    judgement: str


class BiasTable(Record):
    """The groups of one subgroup column beside all patients, under one figure.

    Attributes
    ----------
    about : str
        Performance or calibration.
    column : str
        The subgroup column; empty for a table of all patients alone.
    scale : Scale
        How values and gaps are printed; they are stored in its unit.
    rows : tuple of BiasRow
        All patients first.
    """

    about: Literal["performance", "calibration"]
    column: str
    scale: Scale
    rows: tuple[BiasRow, ...]

    @property
    def title(self) -> str:
        """What the table shows."""
        return f"{self.scale.name} by {self.column}" if self.column else self.scale.name

    @property
    def table(self) -> Table:
        """The same as text."""
        placed = ("Where",) if self.about == "calibration" else ()
        rows = (
            (row.group, *((row.place,) if placed else ()), *self._figures(row), row.judgement)
            for row in self.rows
        )
        return Table(
            caption=self.title,
            columns=("Group", *placed, self.scale.name, "Gap to all patients", "What can be said"),
            rows=tuple(rows),
        )

    def _figures(self, row: BiasRow) -> tuple[str, str]:
        return (
            "" if row.value is None else self.scale.text(row.value),
            "" if row.gap is None else self.scale.gap_text(row.gap),
        )


def bias_tables(study: Study, groups: Sequence[GroupReading]) -> tuple[BiasTable, ...]:
    """Return performance and calibration of every declared subgroup that was released.

    Parameters
    ----------
    groups : sequence of GroupReading
        What was released of the final model.
    """
    overall = _overall(groups)
    if overall is None:
        return ()
    tables: list[BiasTable] = []
    for column, members in _by_column(study, groups).items():
        tables += _performance(study, column, overall, members)
        tables += _calibration(study, column, overall, members)
    return tuple(tables)


def _overall(groups: Sequence[GroupReading]) -> GroupReading | None:
    return next((group for group in groups if group.kind == "overall"), None)


def _by_column(study: Study, groups: Sequence[GroupReading]) -> dict[str, list[GroupReading]]:
    columns = {name: study.subgroups[index].column for index, name in subgroup_names(study)}
    found: dict[str, list[GroupReading]] = {}
    for group in groups:
        if group.kind == "subgroup":
            found.setdefault(columns[group.name], []).append(group)
    return found


def gap_between(group: Reading, overall: Reading) -> Reading:
    """Return how far a group's figure lies from that of all patients (see the module)."""
    gap = group.value - overall.value
    down = math.hypot(group.value - group.low, overall.high - overall.value)
    up = math.hypot(group.high - group.value, overall.value - overall.low)
    return Reading(gap, gap - down, gap + up)


def _performance(
    study: Study, column: str, overall: GroupReading, members: Sequence[GroupReading]
) -> Iterator[BiasTable]:
    for name in _metrics_of(overall, members):
        metric, whole = METRICS[name], metric_figure(study, name, overall.metrics.get(name))
        rows = [BiasRow(group=ALL, value=whole.reading, judgement=_known(overall, whole.reading))]
        rows += [_performs(study, metric, group, whole.reading) for group in members]
        yield BiasTable(
            about="performance",
            column=column,
            scale=metric_scale(study, metric),
            rows=tuple(rows),
        )


def _metrics_of(overall: GroupReading, members: Sequence[GroupReading]) -> list[str]:
    released = {name for group in (overall, *members) for name in group.metrics}
    return [name for name in METRICS if name in released]


def _known(group: GroupReading, reading: Reading | None) -> str:
    if group.suppressed:
        return TOO_FEW
    return LOST if reading is None else ""


def _performs(
    study: Study, metric: Metric, group: GroupReading, overall: Reading | None
) -> BiasRow:
    figure = metric_figure(study, metric.name, group.metrics.get(metric.name))
    reading, unknown = figure.reading, _known(group, figure.reading)
    called = group_in_words(study, group.name)
    if reading is None:
        return BiasRow(group=called, judgement=unknown)
    if overall is None:
        return BiasRow(group=called, value=reading, judgement=NOTHING_BESIDE)
    gap = gap_between(reading, overall)
    judgement = _gap_in_words(figure, gap, metric.lower_is_better)
    return BiasRow(group=called, value=reading, gap=gap, judgement=judgement)


def _gap_in_words(figure: Figure, gap: Reading, lower_is_better: bool) -> str:
    """Say whether a group does worse; never that it does not where that is not known."""
    worst, best = (gap.high, -gap.low) if lower_is_better else (-gap.low, gap.high)
    if best < 0:
        return "worse than all patients"
    if worst < 0:
        return "better than all patients"
    return f"not clear: could be up to {figure.scale.size_text(worst)} worse"


def overall_calibration(study: Study, groups: Sequence[GroupReading]) -> BiasTable | None:
    """Return the calibration of all patients; None where none was released."""
    overall = _overall(groups)
    places = {} if overall is None else _places_of(study, overall)
    return _placed(study, "", _places(ALL, places, {})) if places else None


def _calibration(
    study: Study, column: str, overall: GroupReading, members: Sequence[GroupReading]
) -> Iterator[BiasTable]:
    """Return the calibration of the groups, where the released figures hold any."""
    whole = _places_of(study, overall)
    if not whole:
        return
    rows = list(_places(ALL, whole, {}))
    for group in members:
        called = group_in_words(study, group.name)
        if group.suppressed:
            rows.append(BiasRow(group=called, judgement=TOO_FEW))
        else:
            rows += _places(called, _places_of(study, group), whole)
    yield _placed(study, column, rows)


def _placed(study: Study, column: str, rows: Iterable[BiasRow]) -> BiasTable:
    scale = _TIMES if isinstance(study.outcome, Survival) else _BINS
    return BiasTable(about="calibration", column=column, scale=scale, rows=tuple(rows))


_BINS = Scale(name="Observed share with the outcome", unit="%", decimals=1)
_TIMES = Scale(name="Observed minus predicted survival", unit="points", decimals=1)
Places = Mapping[str, tuple[Reading | None, str]]


def _places(called: str, group: Places, overall: Places) -> Iterator[BiasRow]:
    for place, (value, judgement) in group.items():
        beside = overall[place][0] if overall else None
        gap = None if value is None or beside is None else gap_between(value, beside)
        yield BiasRow(group=called, place=place, value=value, gap=gap, judgement=judgement)


def _places_of(study: Study, group: GroupReading) -> Places:
    """Return the calibration of a group, in percent.

    Yes or no: the observed share in every range of predictions. Survival: by time, how many more
    patients are without the event than predicted.
    """
    if isinstance(study.outcome, Survival):
        unit = study.outcome.unit
        return {f"at {each.end:g} {unit}": _time_in_words(each) for each in group.times}
    return {
        f"predicted {100 * each.low:.1f} to {100 * each.high:.1f} %": _bin_in_words(each)
        for each in group.calibration
    }


def _bin_in_words(each: BinReading) -> tuple[Reading | None, str]:
    if each.observed is None:
        return None, TOO_FEW
    share = scaled(each.observed, 100.0)
    if each.observed.low > each.high:
        return share, "more have the outcome than predicted"
    if each.observed.high < each.low:
        return share, "fewer have the outcome than predicted"
    return share, "not shown to be off"


def _time_in_words(each: TimeReading) -> tuple[Reading | None, str]:
    if each.observed is None:
        return None, TOO_FEW
    if each.predicted is None:
        return None, "no prediction to compare with"
    off = scaled(each.observed, 100.0, each.predicted)
    if off.low > 0:
        return off, "more are without the event than predicted"
    if off.high < 0:
        return off, "fewer are without the event than predicted"
    return off, "not shown to be off"
