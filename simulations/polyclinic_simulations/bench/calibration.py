"""How well level and slope come out, against true probabilities: a table.

``python -m polyclinic_simulations.bench.calibration [--draws N] [--epsilon E …]``
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Vector, logits
from polyclinic_common.rowwise import expit
from polyclinic_simulations.bench.designs import Design, Floats
from polyclinic_simulations.bench.trusted import Trusted
from polyclinic_simulations.results.reliability import logistic_slope, logit

TEST = 5000
NEW = {"ridge": "release", "calibration": {"share": 0.1, "steps": 4}}
DESIGNS = [
    Design(patients, prevalence, base=base)
    for patients, prevalence in (
        (300, 0.5),
        (600, 0.5),
        (3000, 0.1),
        (10_000, 0.03),
        (15_000, 0.1),
        (50_000, 0.03),
    )
    for base in (0.5, 2.0)
]


class Judged(NamedTuple):
    """Predictions against true probabilities: mean over mean, calibration slope, squared error."""

    ratio: float
    slope: float
    error: float


def judged(predicted: Floats, truth: Floats) -> Judged:
    """Judge predictions; the slope is that of the true log odds' regression on the predicted."""
    slope, _ = logistic_slope(logit(predicted), truth, np.ones_like(truth))
    error = float(((predicted - truth) ** 2).mean())
    ratio = float(predicted.mean() / truth.mean())
    return Judged(ratio, np.nan if slope is None else slope, error)


def draw(design: Design, epsilon: float, seed: int) -> tuple[Judged, Judged, float]:
    """Return one draw: private, without privacy, and the squared error of the true mean."""
    found = []
    for setting, training in ((epsilon, NEW), (None, {})):
        run = Trusted(design.study(**training), setting, design.patients)
        cohort, _ = design.draw(run.encoding, design.patients, seed)
        test, truth = design.draw(run.encoding, TEST, seed)
        found.append(judged(_predicted(run, run.trained(cohort, seed), test.x), truth))
    return found[0], found[1], float(truth.var())


def _predicted(run: Trusted, weights: Vector, x: Floats) -> Floats:
    return expit(logits(build_network(run.study, run.encoding), weights, x)[:, 0])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m polyclinic_simulations.bench.calibration")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0])
    options = parser.parse_args()
    columns = ("design", "events", "ε", "predicted / true", "slope", "gain, of mode none's")
    table = Table(*columns, title=f"mean ± standard deviation over {options.draws} draws")
    for epsilon in options.epsilon:
        for design in DESIGNS:
            table.add_row(*_row(design, epsilon, options.draws))
    Console().print(table)


def _row(design: Design, epsilon: float, draws: int) -> tuple[str, ...]:
    made = [draw(design, epsilon, seed) for seed in range(draws)]
    private = np.array([each[0] for each in made])
    (ratio, slope, error), (wide, spread, _) = private.mean(axis=0), private.std(axis=0, ddof=1)
    none, nothing = np.mean([[plain.error, truth] for _, plain, truth in made], axis=0)
    gain = (nothing - error) / (nothing - none)
    said = (f"{ratio:.2f} ± {wide:.2f}", f"{slope:.2f} ± {spread:.2f}", f"{gain:.2f}")
    return design.name, str(design.events), f"{epsilon:g}", *said


if __name__ == "__main__":
    main()
