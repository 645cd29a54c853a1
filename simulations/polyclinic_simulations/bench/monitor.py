"""How often the monitor alarms a stable hospital, and how soon it sees a change: tables and JSON.

``python -m polyclinic_simulations.bench.monitor [--hospitals N] [--runs N] [--seed S] [--json]``

Hospitals are made up, and the model is right until the change. A stable hospital is looked at 60
times; a change of outcomes begins with the first patient or after 400 stable ones, and is looked
for every 20 outcomes, up to 200 of them, or 40 expected events, after it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq
from scipy.special import expit

from polyclinic_client.watch.budget import CALIBRATION, FEWEST, LOOKS, TILT
from polyclinic_client.watch.chances import Chances, known_of
from polyclinic_client.watch.cusum import cusum
from polyclinic_client.watch.inputs import compare_inputs
from polyclinic_client.watch.limits import limits, tilt_of
from polyclinic_common.bundle.conformal import on_scale
from polyclinic_common.cli.output import print_json
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study import Study, parse_study
from polyclinic_common.study.outcomes import Continuous

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
POUND = 0.45359237
STABLE_FIRST = 400
FOLLOWED, EXPECTED_EVENTS, MONTHLY = 200, 40, 20
RESPONSE = {
    "kind": "binary",
    "column": "response",
    "positive": "yes",
    "negative": "no",
    "source": "bench",
}
DOSE = {
    "kind": "continuous",
    "column": "dose",
    "unit": "mg/week",
    "range": [7, 105],
    "transform": "sqrt",
    "typical": 35,
    "source": "bench",
}


class Alarms(NamedTuple):
    """Looks in alarm of one hospital, shape (60,) each."""

    calibration: Bools
    tilt: Bools
    inputs: Bools

    @property
    def any(self) -> Bools:
        """Looks at which something is in alarm."""
        return self.calibration | self.tilt | self.inputs

    @property
    def begun(self) -> int:
        """Alarms that the look before did not give."""
        return int((self.any & ~np.append(False, self.any[:-1])).sum())


def study(outcome: Mapping[str, object] = RESPONSE) -> Study:
    """Return the study of the made-up hospitals."""
    return parse_study(
        {
            "polyclinic": 1,
            "id": "watched",
            "version": "1.0.0",
            "title": "A study to watch",
            "purpose": "Benchmark of the monitor",
            "expires": "2099-12-31",
            "roster": {"sites": [f"site {index}" for index in range(3)]},
            "cohort": {
                "patient_id": "patient",
                "site": "hospital",
                "features": [
                    _number("age", "years", [18, 100]),
                    _number("weight", "kg", [30, 250]),
                    _number("height", "cm", [100, 220]),
                    _words("sex", "female", "male"),
                    _words("stage", "I", "II", "III", "IV"),
                    _words("smoker", "no", "yes"),
                ],
            },
            "outcome": dict(outcome),
        },
        "bench.toml",
    )


def _number(name: str, unit: str, bounds: list[int]) -> dict[str, object]:
    return {"name": name, "kind": "numeric", "unit": unit, "range": bounds, "source": "bench"}


def _words(name: str, *levels: str) -> dict[str, object]:
    return {"name": name, "kind": "categorical", "levels": list(levels), "source": "bench"}


def patients(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Return made-up patients: columns that depend on each other, some values missing."""
    male, age = rng.random(count) < 0.55, rng.normal(62, 12, count).clip(18, 100).round()
    height = rng.normal(164 + 13 * male, 7, count).round()
    weight = (rng.normal(26, 4, count) * (height / 100) ** 2).clip(35, 200).round(1)
    return pd.DataFrame(
        {
            "age": age,
            "weight": np.where(rng.random(count) < 0.04, np.nan, weight),
            "height": np.where(rng.random(count) < 0.04, np.nan, height),
            "sex": np.where(male, "male", "female"),
            "stage": rng.choice(["I", "II", "III", "IV"], count, p=[0.4, 0.3, 0.2, 0.1]),
            "smoker": np.where(rng.random(count) < 0.2 + 0.1 * male, "yes", "no"),
        }
    )


def made(rng: np.random.Generator, count: int, mean: float, spread: float) -> Floats:
    """Return logits of predicted risks: normal, with this standard deviation and mean risk."""
    draws = np.random.default_rng(0).normal(size=4000) * spread
    level = brentq(lambda at: float(expit(at + draws).mean()) - mean, -15.0, 15.0)
    return np.asarray(level + spread * rng.normal(size=count))


def seen(rng: np.random.Generator, logit: Floats, shift: Floats | float = 0.0) -> Chances:
    """Return outcomes of patients whose true logit lies so far above the predicted one."""
    happened = (rng.random(len(logit)) < expit(logit + shift)).astype(np.float64)
    return Chances(happened, expit(logit), logit, np.arange(len(logit)))


def doses(rng: np.random.Generator, count: int) -> Chances:
    """Return weekly doses of warfarin about as IWPC's, of patients whose roots are predicted right.

    A dose outside the public range is no known outcome, as everywhere.
    """
    contract = study(DOSE)
    told = rng.normal(5.8, 0.6, count)
    frame = pd.DataFrame({"dose": (told + rng.normal(size=count)) ** 2})
    # Roots are off by 1, as far as 25 and 36 are apart.
    low, high = on_scale(Continuous.model_validate(DOSE), np.array([25.0, 36.0]))
    everybody = np.ones(count, dtype=np.bool_)
    return known_of(contract, frame, Prediction(told**2), everybody, float(high - low)).chances


def alarms(chances: Chances, stops: Sequence[int]) -> tuple[Bools, Bools]:
    """Return which looks are in alarm: of calibration, and of tilt."""
    sums, found = cusum(chances), limits(chances, stops, CALIBRATION, TILT)
    off = [
        bool(sums.more[at] > each.more or sums.less[at] > each.less)
        for each in found
        for at in (each.chances - 1,)
    ]
    tilted = [tilt_of(chances.first(each.chances)) < each.tilt for each in found]
    return np.array(off), np.array(tilted)


def stable(
    reference: int, monthly: int, mean: float, seed: tuple[int, ...], *, inputs: bool
) -> Alarms:
    """Return what a stable hospital is told in 60 monthly looks; of outcomes alone on request."""
    rng = np.random.default_rng(seed)
    contract, table = study(), patients(rng, reference)
    newer = patients(rng, monthly * LOOKS)
    ends = [monthly * (month + 1) for month in range(LOOKS)]
    logit = made(rng, len(newer), mean, 1.0)
    judged = [end for end in ends if end >= FEWEST]
    off, tilted = alarms(seen(rng, logit), judged)
    silent = np.zeros(LOOKS - len(judged), dtype=np.bool_)
    moved = [
        inputs and any(each.found for each in compare_inputs(contract, table, newer[:end]))
        for end in ends
    ]
    return Alarms(np.append(silent, off), np.append(silent, tilted), np.array(moved))


def found(mean: float, spread: float, shift: float, late: int, seed: tuple[int, ...]) -> bool:
    """Say whether a shift is found in time."""
    rng = np.random.default_rng(seed)
    followed = FOLLOWED if 0.3 <= mean <= 0.7 else round(EXPECTED_EVENTS / mean)
    logit = made(rng, late + followed, mean, spread)
    stops = range(MONTHLY, len(logit) + 1, MONTHLY)
    off, _ = alarms(seen(rng, logit, np.where(np.arange(len(logit)) < late, 0.0, shift)), stops)
    return bool(off[np.array(stops) > late].any())


def in_pounds(reference: int, before: int, seed: tuple[int, ...]) -> bool:
    """Say whether weights that turn from kilograms to pounds are named within 30 rows."""
    rng = np.random.default_rng(seed)
    table, newer = patients(rng, reference), patients(rng, before + 30)
    weight = newer["weight"].to_numpy().copy()
    weight[before:] = (weight[before:] / POUND).round(1)
    tests = compare_inputs(study(), table, newer.assign(weight=weight))
    return any(
        each.found and each.conversion is not None and each.conversion.found == "lb"
        for each in tests
    )


def _stable_rows(hospitals: int, seed: int, *, inputs: bool) -> Iterator[dict[str, object]]:
    for reference, monthly, mean in product((60, 2000), (10, 40), (0.1, 0.5)):
        runs = [
            stable(reference, monthly, mean, (seed, reference, monthly, each), inputs=inputs)
            for each in range(hospitals)
        ]
        yield {
            "table": reference,
            "patients a month": monthly,
            "mean risk": mean,
            "hospitals": hospitals,
            "alarms begun in 60 looks": float(np.mean([run.begun for run in runs])),
            "looks in alarm of 60": float(np.mean([run.any.sum() for run in runs])),
            "of calibration": float(np.mean([run.calibration.sum() for run in runs])),
            "of tilt": float(np.mean([run.tilt.sum() for run in runs])),
            "of inputs": float(np.mean([run.inputs.sum() for run in runs])),
            "hospitals with more than one": float(np.mean([run.begun > 1 for run in runs])),
        }


def _dose_rows(hospitals: int, seed: int) -> Iterator[dict[str, object]]:
    for monthly in (10, 40):
        runs = []
        for each in range(hospitals):
            made = doses(np.random.default_rng((seed, monthly, each)), 2 * monthly * LOOKS)
            ends = [monthly * month for month in range(1, LOOKS + 1) if monthly * month >= FEWEST]
            off, tilted = alarms(made.first(ends[-1]), ends)
            runs.append(Alarms(off, tilted, np.zeros(len(ends), dtype=np.bool_)))
        yield {
            "patients a month": monthly,
            "hospitals": hospitals,
            "alarms begun in 60 looks": float(np.mean([run.begun for run in runs])),
            "looks in alarm of 60": float(np.mean([run.any.sum() for run in runs])),
            "hospitals with more than one": float(np.mean([run.begun > 1 for run in runs])),
        }


def _power_rows(runs: int, seed: int) -> Iterator[dict[str, object]]:
    for mean, spread, late in product((0.05, 0.1, 0.3, 0.5, 0.7), (0.5, 1.0), (0, STABLE_FIRST)):
        up, down = (
            float(np.mean([found(mean, spread, shift, late, (seed, each)) for each in range(runs)]))
            for shift in (0.5, -0.5)
        )
        yield {
            "mean risk": mean,
            "spread": spread,
            "stable before": late,
            "runs": runs,
            "found, up": up,
            "found, down": down,
            "found": (up + down) / 2.0,
        }


def _unit_rows(runs: int, seed: int) -> Iterator[dict[str, object]]:
    for reference, before in product((30, 60, 2000), (0, 400)):
        share = np.mean([in_pounds(reference, before, (seed, each)) for each in range(runs)])
        yield {"table": reference, "rows before": before, "runs": runs, "found": float(share)}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m polyclinic_simulations.bench.monitor")
    parser.add_argument("--hospitals", type=int, default=20)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = {
        "60 looks at a stable hospital, all checks": list(
            _stable_rows(options.hospitals, options.seed, inputs=True)
        ),
        "60 looks at more stable hospitals, outcomes alone": list(
            _stable_rows(10 * options.hospitals, options.seed, inputs=False)
        ),
        "60 looks at stable hospitals, square roots of doses": list(
            _dose_rows(10 * options.hospitals, options.seed)
        ),
        "a shift of 0.5 on the logit": list(_power_rows(options.runs, options.seed)),
        "kilograms turned pounds, within 30 rows": list(_unit_rows(options.runs, options.seed)),
    }
    if options.json:
        print_json({"seed": options.seed, **parts})
        return
    for title, rows in parts.items():
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{each:.3g}" for each in row.values()))
        Console().print(table)


if __name__ == "__main__":
    main()
