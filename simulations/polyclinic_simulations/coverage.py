"""How often 95 % intervals of private metrics hold the truth, on patients made up by a known law.

``python -m polyclinic_simulations.coverage [REPETITIONS]`` prints a table: for every metric the
share of intervals that hold the metric of the population. It is done as in a consortium: chance
decides who is held out at each hospital, some outcomes are unknown, and hospitals declare what is
left, rounded to ten. Sums are clipped, on a grid, with exact discrete noise from the operating
system.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from polyclinic_client.integers import on_grid
from polyclinic_common.data.encoding import start_logits
from polyclinic_common.evaluation.layout import CLIP, Floats, Layout, make_layout
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.evaluation.reading import GroupReading, read_sum
from polyclinic_common.evaluation.statistics import Judged
from polyclinic_common.privacy.discrete_gaussian import reachable_variance
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.study import Study, parse_study

Kind = Literal["continuous", "binary", "survival"]
GRID = 2.0**-16
POPULATION, CHUNK = 2_000_000, 50_000
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
        Hospitals, all of one size.
    """

    kind: Kind
    patients: int
    deviation: float
    hospitals: int


DESIGNS = (
    Design("continuous", 800, 13.0, hospitals=4),
    Design("continuous", 10_000, 13.0, hospitals=1),
    Design("continuous", 10_000, 13.0, hospitals=10),
    Design("binary", 800, 13.0, hospitals=4),
    Design("binary", 10_000, 13.0, hospitals=1),
    Design("binary", 10_000, 13.0, hospitals=10),
    Design("survival", 3_000, 13.0, hospitals=4),
    Design("survival", 20_000, 13.0, hospitals=4),
)


def study_of(kind: Kind) -> Study:
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
            "evaluation": {"private": {"subgroups": True}},
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
    layout, random = make_layout(study_of(design.kind)), np.random.default_rng(seed)
    truths = _truths(layout, design.kind, random)
    hits: dict[tuple[str, str], list[bool]] = {}
    for _ in range(repetitions):
        for group in _released(layout, design, random):
            for metric, said in group.metrics.items():
                if said is not None:
                    held = said.low <= truths[group.name, metric] <= said.high
                    hits.setdefault((group.name, metric), []).append(held)
    return {key: float(np.mean(held)) for key, held in hits.items()}


def _truths(
    layout: Layout, kind: Kind, random: np.random.Generator
) -> dict[tuple[str, str], float]:
    """Return the metrics of a population so large that its own sampling does not count."""
    total, size = np.zeros(layout.length), 0
    for _ in range(POPULATION // CHUNK):
        judged, truth = draw(kind, CHUNK, random)
        total, size = total + layout.rows(judged, truth).sum(axis=0), size + CHUNK
    groups = read_sum(layout, total, 0.0, {"everywhere": size}, 1)
    return {
        (group.name, metric): said.value
        for group in groups
        for metric, said in group.metrics.items()
        if said is not None
    }


def _released(
    layout: Layout, design: Design, random: np.random.Generator
) -> Sequence[GroupReading]:
    """Return what is read from one release."""
    rows, declared = [], {}
    everybody = round(design.patients / design.hospitals / HELD_OUT / KNOWN)
    counts = random.binomial(everybody, HELD_OUT * KNOWN, design.hospitals)
    for index, patients in enumerate(counts.tolist()):
        judged, truth = draw(design.kind, patients, random)
        rows.append(layout.rows(judged, truth))
        declared[f"hospital {index}"] = Observed(judged.value, judged.event).declared
    variance = reachable_variance(round((design.deviation / GRID) ** 2))
    total = on_grid(np.concatenate(rows), CLIP, GRID).sum(axis=0)
    total += SystemNoise().discrete(layout.length, variance, b"coverage")
    return read_sum(layout, total * GRID, np.sqrt(variance) * GRID, declared, 1)


def main(repetitions: int) -> None:
    """Print how often intervals hold the truth, design by design."""
    for design in DESIGNS:
        found = coverage(design, repetitions)
        for (group, metric), share in found.items():
            where = f"{design.kind} {design.patients:6d} patients, {design.hospitals:2d} hospitals"
            sys.stdout.write(f"{f'{where}, {group}: {metric}':70s} {100 * share:5.1f} %\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
