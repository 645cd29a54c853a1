"""Which ridge: each study is left out in turn, and the others choose.

``python -m polyclinic_simulations.bench.ridge [--draws N] [--epsilon E]``; needs POLYCLINIC_DATA.
Splits are made of training patients alone; patients that a study holds out are not looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.head import build_network, initial_weights
from polyclinic_common.models.score_head import Vector, logits
from polyclinic_common.study import Study, parse_study
from polyclinic_simulations.bench.calibration import NEW
from polyclinic_simulations.bench.designs import Design
from polyclinic_simulations.bench.trusted import Trusted
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.studies import resolve

MULTIPLES = (0.5, 1.0, 2.0, 4.0, 60**0.5)
STUDIES = ("heart", "gbsg2", "tcga-brca", "actg175", "iwpc")
DESIGNS = (
    Design(3000, 0.1, base=2.0),
    Design(600, 0.5),
    Design(10_000, 0.03, base=0.5),
    Design(3000, 0.1, columns=40),
)
HELD_OUT, WORST, SEED = 0.25, -1.0, 11


def loss_of(study: Study, weights: Vector, cohort: Cohort) -> float:
    """Return the mean log-loss of a patient, or the mean squared error."""
    encoding = Encoding(study)
    found = logits(build_network(study, encoding), weights, cohort.x)
    each = (found - cohort.y) ** 2
    if study.loss in {"logistic", "hazard"}:
        each = np.logaddexp(0.0, found) - found * cohort.y
    return float((each * cohort.mask).sum() / len(cohort))


def kept(
    study: Study,
    cohort: Cohort,
    epsilon: float,
    draws: int,
    multiples: Sequence[float] = MULTIPLES,
) -> list[float]:
    """Return, for every multiple, the share of mode none's gain over the start that is kept."""
    found = []
    for draw in range(draws):
        test = np.random.default_rng((SEED, draw)).random(len(cohort)) < HELD_OUT
        train, rest = cohort.take(~test), cohort.take(test)
        start = loss_of(study, initial_weights(study, Encoding(study), 0), rest)
        plain = Trusted(study_with(study, {"calibration": None}), None, len(train))
        gain = start - loss_of(study, plain.trained(train, draw), rest)
        private = Trusted(study, epsilon, len(train))
        losses = [loss_of(study, private.trained(train, draw, k), rest) for k in multiples]
        found.append([max(WORST, (start - loss) / gain) for loss in losses])
    return [float(mean) for mean in np.mean(found, axis=0)]


def study_with(study: Study, training: Mapping[str, object]) -> Study:
    """Return the study with other training."""
    data = study.model_dump(mode="json", exclude_none=True)
    data["training"] |= training
    data["training"] = {k: v for k, v in data["training"].items() if v is not None}
    return parse_study(data, study.id)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m polyclinic_simulations.bench.ridge")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--epsilon", type=float, default=1.0)
    options = parser.parse_args()
    shares: dict[str, list[float]] = {}
    for name in STUDIES:
        study, frame = resolve(name, None)
        pooled = build_federation(study, frame, 0).pooled
        shares[name] = kept(study_with(study, NEW), pooled, options.epsilon, options.draws)
    for design in DESIGNS:
        made = design.study(**NEW)
        cohort, _ = design.draw(Encoding(made), design.patients * 4 // 3, SEED)
        shares[design.name] = kept(made, cohort, options.epsilon, options.draws)
    table = Table("study", *(f"{k:.3g}" for k in MULTIPLES), "the others choose")
    for name, row in shares.items():
        others = np.mean([each for other, each in shares.items() if other != name], axis=0)
        chosen = f"{MULTIPLES[int(others.argmax())]:.3g}"
        table.add_row(name, *(f"{share:.2f}" for share in row), chosen)
    Console().print(table)


if __name__ == "__main__":
    main()
