"""``python -m polyclinic_simulations.bench.door``: `polyclinic data check` of a large table.

A made study of twelve columns and a CSV file of a million patients; the command as a hospital types
it, in a process of its own: wall clock, processor time and the most memory that it held.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

STUDY = """\
polyclinic = 1
id = "door"
version = "1.0.0"
title = "A large table"
purpose = "Measure the check of a table"
expires = 2099-12-31
[roster]
sites = ["here", "there", "elsewhere"]
[cohort]
patient_id = "patient"
site = "hospital"
{features}
[outcome]
kind = "continuous"
column = "dose"
unit = "mg/week"
range = [7.0, 105.0]
source = "made"
[model]
kind = "linear"
[privacy]
mode = "secure-sum"
epsilon = 1.0
delta = 1e-8
[training]
rounds = 60
ridge = "release"
[evaluation]
holdout = {{ kind = "fraction", fraction = 0.25 }}
"""
RANGES = {"age": (18, 90), "height": (140, 210), "weight": (40, 200), "crp": (0, 200)}
LEVELS = {
    "sex": ("female", "male"),
    "smoking": ("never", "former", "current"),
    "diabetes": ("no", "yes"),
}
PART = 50_000
MIB = 1024.0
TYPED = "from polyclinic_common.cli.main import main; main()"


def main() -> None:
    """Measure one table and print it."""
    parser = argparse.ArgumentParser(prog="polyclinic_simulations.bench.door", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        study, table = Path(folder) / "study.toml", Path(folder) / "table.csv"
        study.write_text(STUDY.format(features="\n".join(_features())))
        made_table(table, options.rows)
        begin = time.perf_counter()
        command = [sys.executable, "-c", TYPED, "data", "check"]
        done = subprocess.run([*command, str(study), str(table)], check=False)  # noqa: S603
        wall_s = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = table.stat().st_size / MIB**2
    sys.stdout.write(
        f"{options.rows} rows of 12 columns, {size:.0f} MiB: status {done.returncode}, "
        f"{wall_s:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor, "
        f"{used.ru_maxrss / MIB:.0f} MiB at most\n"
    )


def _features() -> list[str]:
    numbers = [
        f'[[cohort.features]]\nname = "{name}"\nkind = "numeric"\nunit = "1"\n'
        f'range = [{low}, {high}]\nsource = "made"'
        for name, (low, high) in RANGES.items()
    ]
    words = [
        f'[[cohort.features]]\nname = "{name}"\nkind = "categorical"\nlevels = {list(levels)}\n'
        'source = "made"'
        for name, levels in LEVELS.items()
    ]
    genes = [
        '[[cohort.features]]\nname = "vkorc1"\nkind = "snp"\nreference = "C"\neffect = "T"\n'
        'source = "made"',
        '[[cohort.features]]\nname = "cyp2c9"\nkind = "diplotype"\nalleles = ["*2", "*3"]\n'
        'source = "made"',
    ]
    return [*numbers, *words, *genes]


def made_table(path: Path, rows: int) -> None:
    """Write patients part by part: a process that starts another one lends it its own memory."""
    random = np.random.default_rng(0)
    for first in range(0, rows, PART):
        part = _patients(random, range(first, min(first + PART, rows)))
        part.to_csv(path, index=False, header=not first, mode="a")


def _patients(random: np.random.Generator, numbers: range) -> pd.DataFrame:
    """Return patients as a laboratory exports them: numbers with one digit behind the point."""
    rows = len(numbers)
    columns: dict[str, object] = {"patient": [f"P{number:08d}" for number in numbers]}
    columns["hospital"] = np.full(rows, "here")
    for name, (low, high) in RANGES.items():
        columns[name] = random.uniform(low, high, rows).round(1)
    for name, levels in LEVELS.items():
        columns[name] = random.choice(levels, rows)
    columns["vkorc1"] = random.choice(["C/C", "C/T", "T/T"], rows)
    columns["cyp2c9"] = random.choice(["*1/*1", "*1/*2", "*1/*3"], rows)
    columns["dose"] = random.uniform(7, 105, rows).round(2)
    return pd.DataFrame(columns)


if __name__ == "__main__":
    main()
