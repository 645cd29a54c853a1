"""What an interval for a probability holds: observed rates in bins beside Venn-Abers.

``python -m polyclinic_simulations.bench.rates [--draws N]``; made-up patients, whose true
probabilities are known.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from polyclinic_common.bundle import venn_abers
from polyclinic_common.bundle.observed_rates import group_edges, groups_of, wilson
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import logits
from polyclinic_common.rowwise import expit
from polyclinic_simulations.bench.calibration import NEW
from polyclinic_simulations.bench.designs import Design, Floats
from polyclinic_simulations.bench.trusted import Trusted

ALPHA, TEST = 0.1, 5000
DESIGNS = (Design(600, 0.5), Design(3000, 0.1, base=2.0))
LOCAL = (100, 300, 1000)


class Held(NamedTuple):
    """Shares of one draw: of groups whose true rate, and of patients whose probability, is held."""

    groups_by_bins: float
    patients_by_bins: float
    width_of_bins: float
    groups_by_venn_abers: float
    patients_by_venn_abers: float
    width_of_venn_abers: float


def draw(design: Design, local: int, seed: int) -> Held:
    """Train once at epsilon 1, calibrate on so many local patients, and look at others."""
    run = Trusted(design.study(**NEW), 1.0, design.patients)
    cohort, _ = design.draw(run.encoding, design.patients, seed)
    weights = run.trained(cohort, seed)
    here, _ = design.draw(run.encoding, local, seed)
    test, truth = design.draw(run.encoding, TEST, seed)
    network = build_network(run.study, run.encoding)
    own, said = (expit(logits(network, weights, each.x)[:, 0]) for each in (here, test))
    having = here.y[:, 0]
    edges = group_edges(own)
    mine, theirs = groups_of(edges, own), groups_of(edges, said)
    rates = np.array([truth[theirs == group].mean() for group in range(len(edges) + 1)])
    shares = [
        wilson(float(having[mine == group].mean()), int((mine == group).sum()), ALPHA)
        for group in range(len(edges) + 1)
    ]
    bins = np.array([[each.low, each.high] for each in shares])
    p0, p1 = venn_abers.fit(own, having).at(said)
    fitted = np.array([[p0[theirs == k].mean(), p1[theirs == k].mean()] for k in range(len(rates))])
    return Held(
        _held(bins, rates),
        _held(bins[theirs], truth),
        float(np.ptp(bins[theirs], axis=1).mean()),
        _held(fitted, rates),
        _held(np.column_stack([p0, p1]), truth),
        float((p1 - p0).mean()),
    )


def _held(ends: Floats, values: Floats) -> float:
    return float(((ends[:, 0] <= values) & (values <= ends[:, 1])).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m polyclinic_simulations.bench.rates")
    parser.add_argument("--draws", type=int, default=50)
    options = parser.parse_args()
    columns = ("design", "here", "bins: rate", "patient", "width", "venn-abers: rate", "patient")
    table = Table(*columns, "width", title=f"{1 - ALPHA:.0%} intervals, {options.draws} draws")
    for design in DESIGNS:
        for local in LOCAL:
            held = np.mean([draw(design, local, seed) for seed in range(options.draws)], axis=0)
            table.add_row(design.name, str(local), *(f"{share:.1%}" for share in held))
    Console().print(table)


if __name__ == "__main__":
    main()
