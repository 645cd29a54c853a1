"""Job J in all its variants, each start to finish in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec

from polyclinic_simulations.bench.records import JobTime, Spread
from polyclinic_simulations.bench.size import Size
from polyclinic_simulations.bench.worker import BARE
from polyclinic_simulations.engines import ENGINES

INLINE_OPACUS, INLINE_FAST, RAY = "inline-opacus", "inline-fast", "ray-opacus"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Once:
    """One process: seconds from start to finish, seconds of its rounds, its peak memory."""

    total_s: float
    rounds_s: float
    peak_mb: float


def ray_is_here() -> bool:
    """Say whether this installation can run the Ray engine, an optional extra."""
    return "ray" in ENGINES and find_spec("ray") is not None


def measure_job(size: Size, repeats: int, *, ray: bool) -> list[JobTime]:
    """Run every variant `repeats` times, in turn, so that a busy minute hits all alike.

    Ray takes longest and runs once.
    """
    runs: dict[str, list[Once]] = {}
    for repeat in range(repeats):
        for variant in (BARE, INLINE_OPACUS, INLINE_FAST, *([RAY] if ray and not repeat else [])):
            runs.setdefault(variant, []).append(_run(variant, size))
    return [_summary(variant, found, runs[BARE]) for variant, found in runs.items()]


def _run(variant: str, size: Size) -> Once:
    command = [sys.executable, "-m", "polyclinic_simulations.bench.worker"]
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603  (this interpreter, this package)
        [*command, variant, json.dumps(asdict(size))],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    total = time.perf_counter() - began
    return Once(total_s=total, **json.loads(done.stdout.splitlines()[-1]))


def _summary(variant: str, runs: list[Once], bare: list[Once]) -> JobTime:
    pairs = list(zip(runs, bare, strict=False))
    return JobTime(
        variant=variant,
        total_s=Spread.of([run.total_s for run in runs]),
        rounds_s=Spread.of([run.rounds_s for run in runs]),
        peak_mb=max(run.peak_mb for run in runs),
        ratio_total=Spread.of([run.total_s / other.total_s for run, other in pairs]),
        ratio_rounds=Spread.of([run.rounds_s / other.rounds_s for run, other in pairs]),
    )
