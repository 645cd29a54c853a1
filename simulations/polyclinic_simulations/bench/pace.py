"""``python -m polyclinic_simulations.bench.pace``: a node's work, measured beside its public time.

Processor seconds of one thread, so that other work on the machine does not count. Every row is the
most patients that the declared size allows. The public time should be at least
:data:`polyclinic_client.gate.pace.SLOWER` times what is measured here; the last column is that
ratio.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from polyclinic_client.compute.integers import Moment
from polyclinic_client.compute.opinion import BetterHere
from polyclinic_client.compute.sums import local_mechanisms, secure_sums
from polyclinic_client.compute.training import OpacusGradients
from polyclinic_client.gate.pace import pace_of
from polyclinic_client.run.approved_study import ApprovedStudy, approved_with
from polyclinic_client.run.assembly import at_hand, schedule_of
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.identity.roster import Roster
from polyclinic_common.models.head import initial_weights, length_of
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.release_id import VOTE, ReleaseId
from polyclinic_common.releases.kinds import UPDATE
from polyclinic_common.study import Study, parse_study

SITES = [f"site {index}" for index in range(3)]
SIZES = (1 << 10, 1 << 13, 1 << 16)
SHAPES: dict[str, dict[str, Any]] = {
    "linear, 10 columns": {"columns": 10},
    "linear, 200 columns": {"columns": 200},
    "hidden 32, 30 columns": {"columns": 30, "hidden": [32]},
    "hidden 64 64, 30 columns": {"columns": 30, "hidden": [64, 64]},
    "sampled, hidden 32, 30 columns": {"columns": 30, "hidden": [32], "sampled": True},
}
Work = tuple[str, Callable[[], object]]


def main() -> None:
    """Measure every kind of work and print it beside the model."""
    parser = argparse.ArgumentParser(prog="polyclinic_simulations.bench.pace", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="powers of two")
    options = parser.parse_args()
    line = "{:<32}{:>8}{:>8}  {:<11}{:>10}{:>10}{:>8}\n"
    sys.stdout.write(
        line.format("study", "patients", "weights", "work", "measured", "public", "ratio")
    )
    for name, shape in SHAPES.items():
        for patients in options.sizes:
            study = _study(**shape)
            for kind, measured_s, public_s in measured(study, patients):
                figures = f"{measured_s:.3f} s", f"{public_s:.2f} s", f"{public_s / measured_s:.0f}"
                sys.stdout.write(line.format(name, patients, length_of(study), kind, *figures))
                sys.stdout.flush()


def measured(study: Study, patients: int) -> Iterator[tuple[str, float, float]]:
    """Yield every kind of work with the seconds that it took, and its public seconds."""
    pace, declared = pace_of(study, patients // 2, patients // 2), patients // 2
    rows = _table(study, patients)
    with TemporaryDirectory() as folder:
        table = Path(folder) / "table.parquet"
        rows.to_parquet(table, index=False)
        approved = _approved(study, declared, lambda: pd.read_parquet(table))
        OpacusGradients(study, approved.encoding).clipped()  # as a node does before
        begin = time.process_time()
        _works(approved)
        yield "first", time.process_time() - begin, pace.first
    approved = _approved(study, declared, lambda: rows)
    everybody = _with_all(approved, rows)
    for kind, work in _works(everybody):
        work()  # what is imported and made once
        begin = time.process_time()
        work()
        yield kind, time.process_time() - begin, pace.work[kind]


def _with_all(approved: ApprovedStudy, rows: pd.DataFrame) -> ApprovedStudy:
    """Return the study with everybody trained on and everybody held out."""
    cohort = approved.encoding.encode(rows, approved.name)
    held_out = held_out_cohort(approved.encoding, rows, approved.name)
    return replace(approved, read=lambda: (cohort, held_out))


def _works(approved: ApprovedStudy) -> list[Work]:
    """Return every kind of work of a study; here the table is read."""
    study, encoding = approved.study, approved.encoding
    gradients = OpacusGradients(study, encoding)
    noise, weights = SystemNoise(b"benchmark"), initial_weights(study, encoding, 0)
    vote = BetterHere(encoding, approved.held_out, weights)
    works: list[Work] = [(VOTE, lambda: vote(weights + 0.1))]
    schedule, at = schedule_of(approved, gradients), at_hand(approved, gradients)
    if study.privacy.mode == "local":
        declared = approved.declared[approved.name]
        update = local_mechanisms(schedule, at, declared, noise)[UPDATE]
        return [*works, (UPDATE, lambda: update.draw(weights, weights, _moment(UPDATE)))]
    return works + [
        (kind, partial(source.draw, weights, _moment(kind)))
        for kind, source in secure_sums(schedule, at, noise).items()
    ]


def _moment(kind: str) -> Moment:
    return Moment(ReleaseId("run", 1, kind), b"")


def _approved(study: Study, declared: int, table: Callable[[], pd.DataFrame]) -> ApprovedStudy:
    sizes = dict.fromkeys(SITES, declared)
    roster = Roster.of({name: bytes([number]) * 32 for number, name in enumerate(SITES)})
    return approved_with(study, roster, frozenset(), sizes, SITES[0], table)


def _study(columns: int, hidden: list[int] | None = None, *, sampled: bool = False) -> Study:
    """Return a survival study where the model is not linear, else one of a continuous outcome."""
    number = {"kind": "numeric", "unit": "1", "range": [0, 1], "source": "made up"}
    outcome: dict[str, Any] = {"kind": "continuous", "column": "y", "unit": "1", "range": [0, 1]}
    training: dict[str, Any] = {"rounds": 4}
    if hidden:
        outcome = {"kind": "survival", "time": "y", "event": "e", "occurred": "1", "censored": "0"}
        outcome |= {"unit": "1", "grid": [0.2, 0.4, 0.6, 0.8]}
    elif columns < 100:
        training["start"] = "statistics"
    if sampled:
        training |= {"schedule": "sampled", "strategy": "fedavg"}
    return parse_study(
        {
            "polyclinic": 1,
            "id": "pace",
            "version": "1.0.0",
            "title": "Made up",
            "purpose": "Measuring",
            "expires": "2099-12-31",
            "roster": {"sites": SITES},
            "cohort": {
                "patient_id": "patient",
                "site": "hospital",
                "features": [{"name": f"x{index}"} | number for index in range(columns)],
            },
            "outcome": outcome | {"source": "made up"},
            "model": {"kind": "mlp", "hidden": hidden} if hidden else {},
            "privacy": {"mode": "local" if sampled else "secure-sum", "epsilon": 4.0},
            "training": training,
            "evaluation": {
                "holdout": {"kind": "fraction", "fraction": 0.25},
                "private": {"by_site": True},
                "acceptance": {"epsilon": 0.1},
            },
        },
        "made up",
    )


def _table(study: Study, patients: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    names = [feature.name for feature in study.cohort.features]
    table = pd.DataFrame(generator.random((patients, len(names))), columns=names)
    table["patient"] = [str(number) for number in range(patients)]
    table["y"] = generator.random(patients).round(3)
    table["e"] = generator.choice(["0", "1"], patients)
    return table


if __name__ == "__main__":
    main()
