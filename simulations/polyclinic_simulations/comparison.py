"""What is compared: the settings that were run, and the baselines beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from polyclinic_common.study import Study
from polyclinic_simulations.results import Baselines, Cell, Result, Scores

TOGETHER = "together"

NAMES = {
    TOGETHER: "Trained together",
    "local_only_private": "Own hospital only",
    "local_only_non_private": "Own hospital only",
    "pooled_same_trainer": "Pooled data, same training",
    "pooled_converged": "Pooled data, fully fitted",
    "cox": "Cox model, pooled data",
    "trivial": "Same prediction for everybody",
    "broadcast": "Common model, before personalising",
}


@dataclass(frozen=True, eq=False)
class Line:
    """One line of the comparison: a way to get a model, and its scores by seed.

    `epsilon` and `mode` are null where nothing was trained on patients of single hospitals.
    `cells` are the runs of a setting, empty for a baseline; `variant` says what else was varied;
    `sites` is the number of made-up hospitals; `formula` names a published formula.
    """

    key: str
    scores: dict[int, Scores]
    mode: str | None = None
    epsilon: float | None = None
    cells: tuple[Cell, ...] = ()
    variant: str = ""
    sites: int | None = None
    formula: str = ""

    @property
    def name(self) -> str:
        """Name without the setting."""
        return NAMES.get(self.key) or f"Published: {self.formula}"

    @property
    def setting(self) -> str:
        """What protects patients; empty where nothing was trained at single hospitals."""
        if self.mode is None:
            return ""
        if self.epsilon is None:
            return "no privacy" + self.variant
        mode = "" if self.mode == "local" else f", {self.mode}"
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

    def baseline(self, key: str, like: Line | None = None) -> Line | None:
        """Return a baseline; `like` picks the one with the same mode and epsilon."""
        for line in self.baselines:
            if key == "local_only_non_private" and line.sites != self.headline.sites:
                continue
            same = like is None or (line.mode, line.epsilon, line.variant) == (
                like.mode,
                like.epsilon,
                like.variant,
            )
            if line.key == key and same:
                return line
        return None

    @property
    def subgroups(self) -> list[str]:
        """Names of the subgroups, in order of first appearance."""
        runs = self.headline.scores.values()
        return list(dict.fromkeys(name for scores in runs for name in scores.by_subgroup))


def compare(study: Study, result: Result) -> Comparison | None:
    """Sort the cells of `result` into settings and baselines; None without any cell."""
    varied = _varied(result)
    settings = [_setting(cells, varied) for cells in result.settings()]
    if not settings:
        return None
    variants = list(dict.fromkeys(line.variant for line in settings))
    settings.sort(
        key=lambda line: (
            line.epsilon is None,
            variants.index(line.variant),
            line.mode,
            line.epsilon or 0.0,
        )
    )
    wanted = (study.privacy.mode, study.privacy.epsilon)
    headline = next((s for s in settings if (s.mode, s.epsilon) == wanted), settings[0])
    return Comparison(tuple(settings), tuple(_baselines(result, settings)), headline)


def _varied(result: Result) -> list[str]:
    """Return which further fields of a setting differ between cells."""
    fields = ("strategy", "sites", "drop")
    return [name for name in fields if len({getattr(cell, name) for cell in result.cells}) > 1]


def _setting(cells: list[Cell], varied: list[str]) -> Line:
    first = cells[0]
    scores = {cell.seed: cell.test for cell in cells}
    words = {
        "strategy": first.strategy,
        "sites": _hospitals(first.sites),
        "drop": f"{first.drop:.0%} dropout",
    }
    variant = "".join(f", {words[name]}" for name in varied)
    return Line(TOGETHER, scores, first.mode, first.epsilon, tuple(cells), variant, first.sites)


def _baselines(result: Result, settings: list[Line]) -> list[Line]:
    lines = [
        Line(
            "local_only_private",
            _pick(setting.cells, lambda beside: beside.local_only_private),
            setting.mode,
            setting.epsilon,
            variant=setting.variant,
        )
        for setting in settings
        if setting.epsilon is not None
    ]
    cells = result.cells
    lines += [_common_model(setting) for setting in settings]
    lines += [
        *_alone_without_privacy(cells),
        Line("pooled_same_trainer", _pick(cells, lambda b: b.pooled_same_trainer)),
        Line("pooled_converged", _pick(cells, lambda b: b.pooled_converged)),
        Line("cox", _pick(cells, lambda b: b.cox)),
        *(_formula(cells, name) for name in cells[0].baselines.published_formulas),
        Line("trivial", _pick(cells, lambda b: b.trivial)),
    ]
    return [line for line in lines if line.scores]


def _alone_without_privacy(cells: list[Cell]) -> list[Line]:
    """Return the hospitals' own models: one line for every number of hospitals."""
    counts = list(dict.fromkeys(cell.sites for cell in cells))
    return [
        Line(
            "local_only_non_private",
            _pick([c for c in cells if c.sites == count], lambda b: b.local_only_non_private),
            mode="none",
            variant=f", {_hospitals(count)}" if len(counts) > 1 else "",
            sites=count,
        )
        for count in counts
    ]


def _hospitals(count: int | None) -> str:
    return f"{count} hospitals" if count else "all hospitals"


def _common_model(setting: Line) -> Line:
    """Return the broadcast model of a run that personalises; without scores where none does."""
    scores = {cell.seed: cell.broadcast for cell in setting.cells if cell.broadcast is not None}
    return Line(
        "broadcast", scores, setting.mode, setting.epsilon, (), setting.variant, setting.sites
    )


def _formula(cells: Iterable[Cell], name: str) -> Line:
    scores = _pick(cells, lambda beside: beside.published_formulas.get(name))
    return Line("published", scores, formula=name)


def _pick(cells: Iterable[Cell], read: Callable[[Baselines], Scores | None]) -> dict[int, Scores]:
    """Return one baseline by seed (it is the same beside every cell of a seed)."""
    found: dict[int, Scores] = {}
    for cell in cells:
        scores = read(cell.baselines)
        if scores is not None:
            found.setdefault(cell.seed, scores)
    return found


def difference(one: Line, other: Line, metric: str) -> list[float]:
    """Return `one` minus `other`, seed by seed, where both are defined."""
    differences = []
    for seed, scores in one.scores.items():
        left = scores.overall.get(metric)
        beside = other.scores.get(seed)
        right = None if beside is None else beside.overall.get(metric)
        if left is not None and right is not None:
            differences.append(left - right)
    return differences
