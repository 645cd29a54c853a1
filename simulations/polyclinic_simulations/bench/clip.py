"""Which clip for yes/no and survival: each study is left out in turn, and the others choose.

``python -m polyclinic_simulations.bench.clip [--draws N] [--epsilon E …]``; needs POLYCLINIC_DATA.
Studies, splits and measure are those of :mod:`polyclinic_simulations.bench.ridge`.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.study import Study, parse_study
from polyclinic_simulations.bench.calibration import NEW
from polyclinic_simulations.bench.ridge import DESIGNS, SEED, kept, study_with
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.studies import resolve

CLIPS = (0.25, 0.35, 0.5, 0.7, 1.0)
STUDIES = ("heart", "gbsg2", "tcga-brca", "actg175")


def study_at(study: Study, clip: float, epsilon: float) -> Study:
    """Return the study with another clip and budget."""
    data = study.model_dump(mode="json", exclude_none=True)
    data["privacy"] |= {"clip": clip, "epsilon": epsilon}
    return parse_study(data, study.id)


def cases() -> list[tuple[str, Study, Cohort]]:
    """Return the built-in studies with their training patients, and made designs."""
    found = []
    for name in STUDIES:
        study, frame = resolve(name, None)
        pooled = build_federation(study, frame, 0).pooled
        found.append((name, study_with(study, NEW), pooled))
    for design in DESIGNS:
        made = design.study(**NEW)
        cohort, _ = design.draw(Encoding(made), design.patients * 4 // 3, SEED)
        found.append((design.name, made, cohort))
    return found


def main() -> None:
    """Print a table for every epsilon."""
    parser = argparse.ArgumentParser(prog="python -m polyclinic_simulations.bench.clip")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0])
    options = parser.parse_args()
    made = cases()
    for epsilon in options.epsilon:
        shares = {
            name: [
                kept(study_at(study, clip, epsilon), cohort, epsilon, options.draws, (1.0,))[0]
                for clip in CLIPS
            ]
            for name, study, cohort in made
        }
        table = Table(f"ε = {epsilon:g}", *(f"{clip:g}" for clip in CLIPS), "the others choose")
        for name, row in shares.items():
            others = np.mean([each for other, each in shares.items() if other != name], axis=0)
            chosen = f"{CLIPS[int(others.argmax())]:g}"
            table.add_row(name, *(f"{share:.2f}" for share in row), chosen)
        Console().print(table)


if __name__ == "__main__":
    main()
