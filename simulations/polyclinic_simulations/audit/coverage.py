"""How often 95 % intervals of private metrics hold the truth, on patients made up by a known law.

``python -m polyclinic_simulations.audit.coverage [REPETITIONS]`` prints a table: for every metric
the share of intervals that hold the metric of the population. It is done as in a consortium: chance
decides who is held out at each hospital, some outcomes are unknown, and hospitals declare all their
patients, rounded to ten, and nothing else. Where a study holds out a fraction, its means are those
of a population in which an unknown outcome counts as the middle of the range; where a column holds
out, they are of those whose outcome is known. Sums are clipped, on a grid, with exact discrete
noise from the operating system.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from polyclinic_client.compute.integers import on_grid
from polyclinic_common.consortium.statements import rounded
from polyclinic_common.data.encoding import start_logits
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.layout import CLIP, Floats, Layout, make_layout
from polyclinic_common.evaluation.reading import GroupReading, Size, held_out_sizes, read_sum
from polyclinic_common.evaluation.statistic import Judged
from polyclinic_common.privacy.discrete_gaussian import reachable_variance
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.study import Study, parse_study

Kind = Literal["continuous", "binary", "survival"]
Way = Literal["fraction", "column"]  # in which patients are held out
GRID = 2.0**-16
POPULATION, CHUNK = 2_000_000, 50_000
UNEVEN = 10  # patients by which hospitals differ: what is rounded off is chance
HELD_OUT, KNOWN = 0.25, 0.95  # chance of a patient to be held out, and of an outcome to be known
OUTCOMES: dict[str, dict[str, Any]] = {
    "continuous": {"column": "dose", "unit": "mg", "range": [0, 120]},
    "binary": {"column": "ill", "positive": "yes", "negative": "no", "base_rate": 0.3},
    "survival": {
        "time": "days",
        "event": "died",
        "occurred": "yes",
        "censored": "no",
        "unit": "days",
        "grid": [100, 200, 300, 400, 500, 600, 700, 800],
    },
}
PROFILE = np.linspace(-0.2, 0.2, 8)  # of the made-up model's hazards over the grid, about a risk
HOLDOUTS: dict[Way, dict[str, Any]] = {
    "fraction": {"kind": "fraction", "fraction": HELD_OUT},
    "column": {"kind": "column", "column": "split", "test": "test"},
}


@dataclass(frozen=True)
class Design:
    """Hospitals, whose patients are drawn anew in every repetition, and the noise on their sum.

    Attributes
    ----------
    kind : str
        Kind of outcome.
    patients : int
        Held-out patients with a known outcome, on average, at all hospitals together.
    deviation : float
        Standard deviation of the noise on every entry, in units of the clip.
    hospitals : int
        Hospitals, all of about one size.
    way : {"fraction", "column"}
        How the study says who is held out.
    """

    kind: Kind
    patients: int
    deviation: float
    hospitals: int
    way: Way = "fraction"


DESIGNS = (
    Design("continuous", 800, 13.0, hospitals=4),
    Design("continuous", 10_000, 13.0, hospitals=1),
    Design("continuous", 10_000, 13.0, hospitals=10),
    Design("continuous", 10_000, 13.0, hospitals=10, way="column"),
    Design("binary", 800, 13.0, hospitals=4),
    Design("binary", 800, 13.0, hospitals=4, way="column"),
    Design("binary", 10_000, 13.0, hospitals=1),
    Design("binary", 10_000, 13.0, hospitals=10),
    Design("binary", 10_000, 13.0, hospitals=10, way="column"),
    Design("survival", 3_000, 13.0, hospitals=4),
    Design("survival", 20_000, 13.0, hospitals=4),
)


def study_of(kind: Kind, way: Way = "fraction") -> Study:
    """Return the study of a design: the metrics that fit its outcome, overall and by sex."""
    feature = {"name": "sex", "kind": "categorical", "levels": ["f", "m"], "source": "made up"}
    return parse_study(
        {
            "polyclinic": 1,
            "id": f"coverage-{kind}",
            "version": "1.0.0",
            "title": "Coverage of intervals",
            "purpose": "Patients made up by a known law",
            "expires": "2099-12-31",
            "roster": {"sites": ["everywhere", "elsewhere", "nowhere"]},
            "cohort": {"patient_id": "patient", "site": "site", "features": [feature]},
            "outcome": {"kind": kind, "source": "made up", **OUTCOMES[kind]},
            "evaluation": {"private": {"subgroups": True}, "holdout": HOLDOUTS[way]},
            "subgroups": [{"column": "sex"}],
        },
        "coverage.toml",
    )


def draw(kind: Kind, patients: int, random: np.random.Generator) -> tuple[Judged, Floats]:
    """Return made-up patients, and their truth as a held-out cohort has it."""
    risk = random.normal(0.0, 1.2, patients)
    event = np.ones(patients)
    if kind == "continuous":
        value = random.gamma(8.0, 5.0, patients)
        predicted = np.clip(0.8 * value + random.normal(6.0, 8.0, patients), 0.0, 120.0)
    elif kind == "binary":
        value = (random.random(patients) < expit(risk - 0.8)).astype(np.float64)
        predicted = expit(0.7 * risk - 0.5)
    else:
        time = random.exponential(400.0, patients) * np.exp(-0.7 * risk)
        censored = np.minimum(random.exponential(900.0, patients), 800.0)
        event, value = (time <= censored).astype(np.float64), np.minimum(time, censored)
        predicted = 0.7 * risk + start_logits(study_of(kind).outcome).mean()
    women = random.random(patients) < 0.4
    everywhere = np.ones(patients)
    truth = np.column_stack([value, event, everywhere, 0 * event, 0 * event, women, ~women])
    return Judged(predicted, value, event), truth


def coverage(design: Design, repetitions: int, seed: int = 0) -> dict[tuple[str, str], float]:
    """Return the share of intervals that hold the truth, by group and metric.

    `seed` fixes the patients, never the noise.
    """
    study, random = study_of(design.kind, design.way), np.random.default_rng(seed)
    layout = make_layout(study)
    truths = _truths(layout, design.kind, random)
    hits: dict[tuple[str, str], list[bool]] = {}
    for _ in range(repetitions):
        for group in _released(study, layout, design, random):
            for metric, said in _said(group).items():
                held = said.low <= truths[group.name, metric] <= said.high
                hits.setdefault((group.name, metric), []).append(held)
    return {key: float(np.mean(held)) for key, held in hits.items()}


def _truths(
    layout: Layout, kind: Kind, random: np.random.Generator
) -> dict[tuple[str, str], float]:
    """Return the metrics of a population so large that its own sampling does not count.

    Who has no known outcome adds nothing to it, as to a release.
    """
    total, size = np.zeros(layout.length), 0
    for _ in range(POPULATION // CHUNK):
        judged, truth = draw(kind, CHUNK, random)
        total, size = total + layout.rows(judged, truth).sum(axis=0), size + CHUNK
    everybody = {"everywhere": Size(size, 0.0)}
    groups = read_sum(layout, KNOWN * total, 0.0, everybody, 1, PROFILE)
    return {
        (group.name, metric): said.value
        for group in groups
        for metric, said in _said(group).items()
    }


def _said(group: GroupReading) -> dict[str, Reading]:
    """Return everything that is shown of a group with an interval, by name."""
    found = dict(group.metrics)
    for time in group.times:
        found |= {f"survival at {time.end:g}": time.observed, f"AUC at {time.end:g}": time.auc}
        for index, risk in enumerate(time.by_risk, start=1):
            found[f"survival at {time.end:g} in risk bin {index}"] = risk.observed
    return {name: said for name, said in found.items() if said is not None}


def _released(
    study: Study, layout: Layout, design: Design, random: np.random.Generator
) -> Sequence[GroupReading]:
    """Return what is read from one release."""
    rows, declared = [], {}
    everybody = round(design.patients / design.hospitals / HELD_OUT / KNOWN)
    for index in range(design.hospitals):
        patients = everybody + int(random.integers(UNEVEN))
        judged, truth = draw(design.kind, int(random.binomial(patients, HELD_OUT)), random)
        known = random.random((len(truth), 1)) < KNOWN
        rows.append(known * layout.rows(judged, truth))
        declared[f"hospital {index}"] = rounded(patients)
    variance = reachable_variance(round((design.deviation / GRID) ** 2))
    total = on_grid(np.concatenate(rows), CLIP, GRID).sum(axis=0)
    total += SystemNoise().discrete(layout.length, variance, b"coverage")
    sizes = held_out_sizes(study, declared)
    return read_sum(layout, total * GRID, np.sqrt(variance) * GRID, sizes, 1, PROFILE)


def main(repetitions: int) -> None:
    """Print how often intervals hold the truth, design by design."""
    for design in DESIGNS:
        found = coverage(design, repetitions)
        for (group, metric), share in found.items():
            where = f"{design.kind} {design.patients:6d} patients, {design.hospitals:2d} hospitals"
            line = f"{where}, {design.way}, {group}: {metric}"
            sys.stdout.write(f"{line:80s} {100 * share:5.1f} %\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
