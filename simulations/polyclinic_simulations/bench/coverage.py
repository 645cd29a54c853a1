"""Do conformal intervals hold what they promise? Doses of real and of synthetic patients.

``python -m polyclinic_simulations.bench.coverage [STUDY …] [--splits N] [--seeds N] [--json]``;
``iwpc`` needs POLYCLINIC_DATA.

Under every seed a model is trained once, with the privacy noise of the study's hospitals, on the
patients that are not held out under that seed. The others are split at random, over and over: one
half calibrates, the other half is looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from polyclinic_common.bundle import conformal
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.predictor import Predicted
from polyclinic_common.bundle.released_errors import approximate
from polyclinic_common.cli.output import print_json
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.reading import GroupReading, RoundReadings
from polyclinic_common.models.predict import Prediction, predict
from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Continuous
from polyclinic_simulations.bench.trusted import Trusted
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.studies import resolve

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]
STUDIES = ("iwpc", "warfarin")
ALPHA, SPLITS, SEEDS, EPSILON = 0.1, 200, 5, 1.0
TOLERANCE = 0.03
LEAST_LOOKED_AT = 20  # held-out patients of a group or a hospital, on average over the seeds


@dataclass(frozen=True)
class Judged:
    """Held-out patients of one seed, with a known outcome: n of them.

    Attributes
    ----------
    study : Study
        Whose outcome is predicted.
    predicted, observed : arrays of shape (n,)
        In its unit.
    groups, hospitals : mapping of str to array of shape (n,)
        Who is in which declared subgroup, third of the predicted dose, or hospital.
    """

    study: Study
    predicted: Floats
    observed: Floats
    groups: Mapping[str, Rows]
    hospitals: Mapping[str, Rows]

    @property
    def outcome(self) -> Continuous:
        """What is predicted: a number."""
        if not isinstance(self.study.outcome, Continuous):
            raise TypeError(self.study.outcome.kind)
        return self.study.outcome

    def covered(self, calibrating: Rows) -> tuple[Rows, Floats]:
        """Return whose outcome lies in its interval, and the widths, each of shape (n,).

        Parameters
        ----------
        calibrating : array of shape (n,)
            Who gives the width.
        """
        said, seen = self.predicted[calibrating], self.observed[calibrating]
        half = conformal.half_width(self.outcome, said, seen, ALPHA)
        return self._within(*conformal.bounds(self.outcome, self.predicted, half))

    def approximated(self) -> tuple[Rows, Floats]:
        """Return the same of intervals from the mean error, as far as it would be released."""
        errors = np.minimum(np.abs(self.predicted - self.observed), self.study.error_bound)
        mean = float(errors.mean())
        metrics: Mapping[str, Reading | None] = {"mae": Reading(mean, mean, mean)}
        group = GroupReading("overall", "all", len(errors), 0.0, suppressed=False, metrics=metrics)
        evaluation = Evaluation(metrics=(RoundReadings(self.study.rounds, (group,)),))
        everybody = np.ones(len(errors), dtype=np.bool_)
        said = Prediction(self.predicted)
        rows = Predicted(
            self.study, np.empty((len(errors), 0)), said, ((),) * len(errors), everybody
        )
        found = [each for each in approximate(evaluation, rows) if each is not None]
        return self._within(
            np.array([each.low for each in found]), np.array([each.high for each in found])
        )

    def _within(self, low: Floats, high: Floats) -> tuple[Rows, Floats]:
        return (low <= self.observed) & (self.observed <= high), high - low


@dataclass(frozen=True)
class Coverage:
    """Shares of patients who lie in their interval.

    Attributes
    ----------
    study, scale, calibrated : str
        Which study; on which scale distances are taken; among whose patients.
    patients : float
        Held-out patients, on average over the seeds.
    mean, deviation : float
        Over seeds and splits.
    low, high : float
        The 5th and the 95th percentile of the splits.
    seeds : list of float
        The mean of every seed.
    width : float
        Median width, in the outcome's unit.
    groups : dict of str to float
        By subgroup or hospital, over all seeds and splits.
    """

    study: str
    scale: str
    calibrated: str
    patients: float
    mean: float
    deviation: float
    low: float
    high: float
    seeds: list[float]
    width: float
    groups: dict[str, float]

    @property
    def worst(self) -> tuple[str, float]:
        """The group whose patients are missed most often."""
        name = min(self.groups, key=lambda each: self.groups[each])
        return name, self.groups[name]

    @property
    def holds(self) -> bool:
        """Whether the mean lies within three points of what is promised."""
        return abs(self.mean - (1.0 - ALPHA)) <= TOLERANCE


def judged(study: Study, frame: pd.DataFrame, seed: int, epsilon: float) -> Judged:
    """Return the held-out patients of one seed, predicted by a model trained without them."""
    federation = build_federation(study, frame, seed)
    train = federation.pooled
    weights = Trusted(study, epsilon, len(train)).trained(train, seed)
    said = predict(study, federation.encoding, weights, federation.x_test).value
    observed = federation.observed.value
    known = np.isfinite(observed)
    groups = _subgroups(federation) | _thirds(said)
    return Judged(
        study,
        said[known],
        observed[known],
        {name: rows[known] for name, rows in groups.items()},
        {name: rows[known] for name, rows in _hospitals(federation).items()},
    )


def on_own_scale(each: Judged) -> Judged:
    """Return the same patients with distances in the outcome's own unit."""
    plain = each.outcome.model_copy(update={"transform": "none"})
    study = each.study.model_copy(update={"outcome": plain})
    return Judged(study, each.predicted, each.observed, each.groups, each.hospitals)


def _subgroups(federation: Federation) -> dict[str, Rows]:
    return {
        name: np.concatenate([site.subgroups[name] for site in federation.sites])
        for name in federation.sites[0].subgroups
    }


def _thirds(said: Floats) -> dict[str, Rows]:
    low, high = np.quantile(said, [1 / 3, 2 / 3])
    return {
        "lowest third of predictions": said <= low,
        "middle third of predictions": (said > low) & (said <= high),
        "highest third of predictions": said > high,
    }


def _hospitals(federation: Federation) -> dict[str, Rows]:
    names = np.repeat(
        [site.name for site in federation.sites], [len(site.test) for site in federation.sites]
    )
    return {site.name: names == site.name for site in federation.sites}


def together(name: str, scale: str, patients: Sequence[Judged], splits: int) -> Coverage:
    """Calibrate on half of all hospitals' held-out patients and look at the other half."""
    shares = np.zeros((len(patients), splits))
    counts: dict[str, Floats] = {}
    widths = []
    for seed, each in enumerate(patients):
        rng = np.random.default_rng((seed, splits))
        for split in range(splits):
            half = rng.permutation(len(each.observed)) < len(each.observed) // 2
            inside, width = each.covered(half)
            shares[seed, split] = inside[~half].mean()
            widths.append(float(np.median(width)))
            _count(counts, each.groups, inside, ~half)
    return _summary(name, scale, "all hospitals", patients, shares, widths, counts)


def by_hospital(name: str, scale: str, patients: Sequence[Judged], splits: int) -> Coverage:
    """Calibrate in every hospital on half of its own, and look at the other half of its own."""
    shares = np.zeros((len(patients), splits))
    counts: dict[str, Floats] = {}
    widths = []
    for seed, each in enumerate(patients):
        rng = np.random.default_rng((seed, splits, 1))
        for split in range(splits):
            looked, covered = 0, 0
            for hospital, rows in each.hospitals.items():
                own = rng.permutation(np.flatnonzero(rows))
                if len(own) // 2 < conformal.fewest_patients(ALPHA):
                    continue
                half = np.isin(np.arange(len(rows)), own[: len(own) // 2])
                inside, width = each.covered(half)
                rest = rows & ~half
                looked, covered = looked + int(rest.sum()), covered + int(inside[rest].sum())
                widths.append(float(np.median(width[rest])))
                _count(counts, {hospital: rows}, inside, rest)
            shares[seed, split] = covered / looked
    return _summary(name, scale, "each hospital", patients, shares, widths, counts)


def approximated(name: str, scale: str, patients: Sequence[Judged]) -> Coverage:
    """Look at everybody held out, with the interval that the mean error of all of them gives."""
    shares = np.zeros((len(patients), 1))
    counts: dict[str, Floats] = {}
    widths = []
    for seed, each in enumerate(patients):
        inside, width = each.approximated()
        shares[seed, 0] = inside.mean()
        widths.append(float(np.median(width)))
        _count(counts, each.groups, inside, np.ones(len(inside), dtype=np.bool_))
    return _summary(name, scale, "no patients: approximate", patients, shares, widths, counts)


def _count(
    counts: dict[str, Floats], groups: Mapping[str, Rows], inside: Rows, looked: Rows
) -> None:
    for name, rows in groups.items():
        seen = rows & looked
        before = counts.get(name, np.zeros(2))
        counts[name] = before + np.array([int(inside[seen].sum()), int(seen.sum())])


def _summary(
    name: str,
    scale: str,
    calibrated: str,
    patients: Sequence[Judged],
    shares: Floats,
    widths: Sequence[float],
    counts: Mapping[str, Floats],
) -> Coverage:
    low, high = np.quantile(shares, [0.05, 0.95])
    least = LEAST_LOOKED_AT / 2 * shares.size  # half of a group is looked at in every split
    return Coverage(
        study=name,
        scale=scale,
        calibrated=calibrated,
        patients=float(np.mean([len(each.observed) for each in patients])),
        mean=float(shares.mean()),
        deviation=float(shares.std(ddof=1)),
        low=float(low),
        high=float(high),
        seeds=shares.mean(axis=1).tolist(),
        width=float(np.median(widths)),
        groups={
            group: float(covered / looked)
            for group, (covered, looked) in counts.items()
            if looked >= least
        },
    )


def measured(name: str, splits: int, seeds: int, epsilon: float) -> list[Coverage]:
    """Return the coverage in a built-in study, calibrated in all ways."""
    study, frame = resolve(name, None)
    patients = [judged(study, frame, seed, epsilon) for seed in range(seeds)]
    scale = patients[0].outcome.transform
    return [
        together(name, scale, patients, splits),
        by_hospital(name, scale, patients, splits),
        approximated(name, scale, patients),
        together(name, "none", [on_own_scale(each) for each in patients], splits),
    ]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m polyclinic_simulations.bench.coverage")
    parser.add_argument("studies", nargs="*", default=STUDIES, metavar="STUDY")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epsilon", type=float, default=EPSILON)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [
        each
        for name in options.studies
        for each in measured(name, options.splits, options.seeds, options.epsilon)
    ]
    if options.json:
        print_json([asdict(each) | {"worst": each.worst[0], "holds": each.holds} for each in found])
        return
    _show(found, options)


def _show(found: Sequence[Coverage], options: argparse.Namespace) -> None:
    console = Console(highlight=False)
    table = Table(
        "study",
        "scale",
        "calibrated in",
        "covered",
        "5 to 95 % of splits",
        "seeds",
        "width",
        "worst group",
        title=f"{1 - ALPHA:.0%} intervals, ε = {options.epsilon:g}, {options.seeds} seeds, "
        f"{options.splits} splits each",
    )
    for each in found:
        worst, share = each.worst
        table.add_row(
            f"{each.study} ({each.patients:.0f})",
            each.scale,
            each.calibrated,
            f"{each.mean:.1%} ± {each.deviation:.1%}",
            f"{each.low:.1%} to {each.high:.1%}",
            f"{min(each.seeds):.1%} to {max(each.seeds):.1%}",
            f"{each.width:.1f}",
            f"{worst} {share:.1%}",
        )
    console.print(table)
    for each in found:
        console.print(f"{each.study}, {each.scale}, {each.calibrated}:")
        for name, share in sorted(each.groups.items(), key=lambda group: group[1]):
            console.print(f"  {name}: {share:.1%}")


if __name__ == "__main__":
    main()
