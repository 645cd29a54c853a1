"""What is compared: the settings that were run, and the baselines beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from polyclinic_common.study import Study
from polyclinic_simulations.federation.setting import FIXED_SPLITS, alone_strategy, runs_once
from polyclinic_simulations.results.intervals import gap
from polyclinic_simulations.results.results import (
    Baselines,
    Cell,
    PrivacySpent,
    Result,
    Scores,
    SettingKey,
)

TOGETHER = "together"

NAMES = {
    TOGETHER: "Trained together",
    "local_only_private": "Own hospital only",
    "local_only_non_private": "Own hospital only",
    "pooled_same_trainer": "Pooled data, same training",
    "pooled_converged": "Pooled data, fully fitted",
    "cox": "Cox model, pooled data",
    "trivial": "Same prediction for everybody",
    "nobody": "Always answering no",
    "broadcast": "Common model, before personalising",
}

UNTRAINED = frozenset({"cox", "published", "trivial", "nobody"})
SHARED = frozenset({"local_only_non_private", "pooled_same_trainer", "pooled_converged"})
MODES = ("secure-sum", "local", "none")


@dataclass(frozen=True, eq=False)
class Line:
    """One line of the comparison: a way to get a model, and its scores by seed.

    `epsilon` and `mode` are null where nothing was trained on patients of single hospitals.
    `cells` are the runs of a setting, empty for a baseline; `beside` are the settings that a
    baseline belongs to; `variant` says what else was varied. `formula` names a published formula,
    and `note` says on how many patients it is scored where that is not all of them. `once` holds
    where every run would give the same: then there is one. `names_mode` is set where several
    private modes were run.
    """

    key: str
    scores: dict[int, Scores]
    mode: str | None = None
    epsilon: float | None = None
    cells: tuple[Cell, ...] = ()
    variant: str = ""
    beside: frozenset[SettingKey] = frozenset()
    formula: str = ""
    note: str = ""
    once: bool = False
    names_mode: bool = False

    @property
    def name(self) -> str:
        """Name without the setting."""
        return NAMES.get(self.key) or f"Published: {self.formula}{self.note}"

    @property
    def spent(self) -> PrivacySpent:
        """What the dearest of its runs cost; they differ where training stops early."""
        return max((cell.privacy for cell in self.cells), key=lambda spent: spent.epsilon or 0.0)

    @property
    def sites(self) -> int | None:
        """Number of made-up hospitals of a setting; None where they are the study's."""
        return self.cells[0].sites if self.cells else None

    @property
    def setting(self) -> str:
        """What protects patients; empty where nothing was trained at single hospitals."""
        if self.mode is None:
            return ""
        if self.epsilon is None:
            return "no privacy" + self.variant
        named = self.names_mode or self.mode != "secure-sum"
        mode = f", mode {self.mode}" if named else ""
        return f"ε = {self.epsilon:g}{mode}{self.variant}"

    @property
    def plain_setting(self) -> str:
        """What protects patients, without what else was varied."""
        return "no privacy" if self.epsilon is None else f"ε = {self.epsilon:g}"

    @property
    def label(self) -> str:
        """Name with the setting."""
        return f"{self.name}, {self.setting}" if self.setting else self.name + self.variant

    def overall(self, metric: str) -> list[float | None]:
        """Return the metric over all test patients, one value a seed."""
        return self._each(lambda scores: scores.overall.get(metric))

    def mean_of_sites(self, metric: str) -> list[float | None]:
        """Return the mean over the sites, one value a seed."""
        return self._each(lambda scores: scores.mean_of_sites(metric))

    def at_site(self, site: str, metric: str) -> list[float | None]:
        """Return the metric at one site, one value a seed."""
        return self._each(lambda scores: scores.by_site.get(site, {}).get(metric))

    def in_subgroup(self, name: str, metric: str) -> list[float | None]:
        """Return the metric in one subgroup, one value a seed."""
        return self._each(lambda scores: scores.by_subgroup.get(name, {}).get(metric))

    def sampling_error(self, metric: str) -> float | None:
        """Return the standard error of the metric with other test patients, without noise."""
        found = gap([(scores, None) for scores in self.scores.values()], metric, noiseless=True)
        return None if found is None or found.sampling is None else found.sampling**0.5

    def _each(self, read: Callable[[Scores], float | None]) -> list[float | None]:
        return [read(scores) for scores in self.scores.values()]


@dataclass(frozen=True)
class Comparison:
    """The settings (stronger privacy first), the baselines, and the setting that headlines."""

    settings: tuple[Line, ...]
    baselines: tuple[Line, ...]
    headline: Line

    @property
    def private(self) -> tuple[Line, ...]:
        """Settings that protect patients."""
        return tuple(line for line in self.settings if line.epsilon is not None)

    @property
    def open(self) -> Line | None:
        """Setting without privacy like the headline's, if it was run."""
        return next((line for line in self.alike(self.settings) if line.epsilon is None), None)

    def alike(self, lines: Iterable[Line]) -> list[Line]:
        """Return the lines that differ from the headline in mode and epsilon alone."""
        return [line for line in lines if line.variant == self.headline.variant]

    def rivals(self, metric: str) -> list[Line]:
        """Return the baselines in which `metric` means something: a constant answer has one AUC."""
        return [line for line in self.baselines if line.key != "nobody" or metric == "accuracy"]

    def baseline(self, key: str) -> Line | None:
        """Return the baseline that belongs to the headline."""
        wanted = self.headline.cells[0].setting
        mine = (line for line in self.baselines if line.key == key and wanted in line.beside)
        return next(mine, None)

    @property
    def subgroups(self) -> list[str]:
        """Names of the subgroups, in order of first appearance."""
        runs = self.headline.scores.values()
        return list(dict.fromkeys(name for scores in runs for name in scores.by_subgroup))


def compare(study: Study, result: Result) -> Comparison | None:
    """Sort the cells of `result` into settings and baselines; None without any cell."""
    varied = _varied(result)
    several = len({cell.mode for cell in result.cells if cell.epsilon is not None}) > 1
    settings = [
        replace(_setting(study, cells, varied), names_mode=several) for cells in result.settings()
    ]
    if not settings:
        return None
    variants = list(dict.fromkeys(line.variant for line in settings))
    settings.sort(
        key=lambda line: (
            line.epsilon is None,
            variants.index(line.variant),
            MODES.index(line.mode or "none"),
            line.epsilon or 0.0,
        )
    )
    wanted = (study.privacy.mode, study.privacy.epsilon)
    headline = next((s for s in settings if (s.mode, s.epsilon) == wanted), settings[0])
    baselines = [
        replace(line, names_mode=several) for line in _baselines(study, result.cells, settings)
    ]
    return Comparison(tuple(settings), tuple(baselines), headline)


def _varied(result: Result) -> list[str]:
    """Return which further fields of a setting differ between cells."""
    fields = ("strategy", "sites", "drop")
    return [name for name in fields if len({getattr(cell, name) for cell in result.cells}) > 1]


def _setting(study: Study, cells: list[Cell], varied: list[str]) -> Line:
    first = cells[0]
    once = runs_once(study, first.mode, first.drop)
    scores = one_run({cell.seed: cell.test for cell in cells}, once=once)
    words = {
        "strategy": first.strategy,
        "sites": _hospitals(first.sites),
        "drop": f"{first.drop:.0%} dropout",
    }
    variant = "".join(f", {words[name]}" for name in varied)
    return Line(TOGETHER, scores, first.mode, first.epsilon, tuple(cells), variant, once=once)


def one_run(scores: dict[int, Scores], *, once: bool) -> dict[int, Scores]:
    """Return one run where every run would give the same."""
    return dict(list(scores.items())[:1]) if once else scores


def _baselines(study: Study, cells: list[Cell], settings: list[Line]) -> list[Line]:
    lines = [
        _beside(setting, "local_only_private", lambda cell: cell.baselines.local_only_private)
        for setting in settings
    ]
    lines += [_beside(setting, "broadcast", lambda cell: cell.broadcast) for setting in settings]
    trained = _groups(cells, lambda cell: (cell.sites, alone_strategy(cell.strategy)))
    alike = _groups(cells, lambda cell: (cell.sites,))
    lines += [
        *_shared(trained, "local_only_non_private", lambda b: b.local_only_non_private, "none"),
        *_shared(trained, "pooled_same_trainer", lambda b: b.pooled_same_trainer),
        *_shared(alike, "pooled_converged", lambda b: b.pooled_converged),
        *_shared(alike, "cox", lambda b: b.cox),
    ]
    for name in cells[0].baselines.published_formulas:
        found = _shared(alike, "published", partial(_formula, name=name))
        note = _patients_note(cells[0].baselines, name)
        lines += [replace(line, formula=name, note=note) for line in found]
    lines += _shared(alike, "trivial", lambda b: b.trivial)
    lines += _shared(alike, "nobody", lambda b: b.nobody)
    return [
        replace(line, scores=one_run(line.scores, once=True), once=True)
        if _is_once(study, line)
        else line
        for line in lines
        if line.scores
    ]


def _is_once(study: Study, line: Line) -> bool:
    """Say whether every run gives a baseline again: its split, start and training are fixed."""
    if line.key in UNTRAINED:
        return study.evaluation.holdout.kind in FIXED_SPLITS
    return line.key in SHARED and runs_once(study, "none")


def _patients_note(beside: Baselines, name: str) -> str:
    scored, everybody = beside.published_patients.get(name), beside.test_patients
    return f" ({scored} of {everybody} patients)" if scored and scored < everybody else ""


def _formula(beside: Baselines, name: str) -> Scores | None:
    return beside.published_formulas.get(name)


def _beside(setting: Line, key: str, read: Callable[[Cell], Scores | None]) -> Line:
    """Return a baseline that every setting has of its own; without scores where it has none."""
    found = {cell.seed: scores for cell in setting.cells if (scores := read(cell)) is not None}
    beside = frozenset({setting.cells[0].setting})
    return Line(key, found, setting.mode, setting.epsilon, (), setting.variant, beside)


def _groups(cells: list[Cell], of: Callable[[Cell], object]) -> dict[str, list[Cell]]:
    """Group the cells that share a baseline; keys say what tells the groups from each other."""
    found: dict[object, list[Cell]] = {}
    for cell in cells:
        found.setdefault(of(cell), []).append(cell)
    return {_variant_of(group, cells): group for group in found.values()}


def _variant_of(group: list[Cell], cells: list[Cell]) -> str:
    """Say which number of hospitals and which strategies a group has, where not those of all."""
    sites, strategies = (
        dict.fromkeys(getattr(cell, name) for cell in group) for name in ("sites", "strategy")
    )
    words = ""
    if len(sites) < len({cell.sites for cell in cells}):
        words += f", {_hospitals(next(iter(sites)))}"
    if len(strategies) < len({cell.strategy for cell in cells}):
        words += f", {'/'.join(strategies)}"
    return words


def _shared(
    groups: dict[str, list[Cell]],
    key: str,
    read: Callable[[Baselines], Scores | None],
    mode: str | None = None,
) -> list[Line]:
    """Return a baseline once for every group of cells."""
    return [
        Line(
            key,
            _pick(group, read),
            mode,
            variant=variant,
            beside=frozenset(cell.setting for cell in group),
        )
        for variant, group in groups.items()
    ]


def _hospitals(count: int | None) -> str:
    return f"{count} hospitals" if count else "all hospitals"


def _pick(cells: Iterable[Cell], read: Callable[[Baselines], Scores | None]) -> dict[int, Scores]:
    """Return one baseline by seed (it is the same beside every one of these cells of a seed)."""
    found: dict[int, Scores] = {}
    for cell in cells:
        scores = read(cell.baselines)
        if scores is not None:
            found.setdefault(cell.seed, scores)
    return found
