"""Measure everything and write ``benchmark.json`` and ``benchmark.html``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from polyclinic_common.files import write_atomically
from polyclinic_simulations.bench.growth import measure_growth, points
from polyclinic_simulations.bench.job import measure_job, ray_is_here
from polyclinic_simulations.bench.machine import describe_machine
from polyclinic_simulations.bench.page import render_page
from polyclinic_simulations.bench.records import Benchmark
from polyclinic_simulations.bench.secure_sum import measure_sums
from polyclinic_simulations.bench.size import Size
from polyclinic_simulations.bench.steps import measure_steps
from polyclinic_simulations.bench.targets import targets

JOB_J = Size()


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often; the defaults are the benchmark's.

    `ray` asks for the Ray engine, where it is installed.
    """

    job: Size = JOB_J
    repeats: int = 3
    ray: bool = True
    steps: int = 100
    sites: Sequence[int] = (4, 8, 16, 32, 50)
    patients: Sequence[int] = (1_000, 10_000, 100_000, 1_000_000)
    columns: Sequence[int] = (10, 100, 1_000, 10_000)
    sum_sites: Sequence[int] = (3, 10, 50)
    sum_lengths: Sequence[int] = (1_000, 100_000)
    sum_repeats: int = 5


TINY = Plan(
    job=Size(sites=2, patients=40, columns=4, hidden=(3,), rounds=1, batch=16),
    repeats=1,
    ray=False,
    steps=2,
    sites=(2, 3),
    patients=(500, 1_000),
    columns=(2, 4),
    sum_sites=(3,),
    sum_lengths=(100,),
    sum_repeats=1,
)


def run_benchmark(plan: Plan, out: Path, say: Callable[[str], None]) -> Benchmark:
    """Measure, write both files into `out` and return what was found; `say` is told of progress."""
    machine, ray = describe_machine(), plan.ray and ray_is_here()
    say("job J")
    job = measure_job(plan.job, plan.repeats, ray=ray)
    say("steps")
    heads = [replace(plan.job, hidden=()), plan.job]
    steps = measure_steps(heads, plan.repeats, plan.steps)
    growth = []
    for point in measure_growth(points(plan.sites, plan.patients, plan.columns)):
        say(f"growth with {point.curve}: {point.at:,}")
        growth.append(point)
    sums = []
    for time in measure_sums(plan.sum_sites, plan.sum_lengths, plan.sum_repeats):
        say(f"secure sum of {time.hospitals} hospitals, {time.length:,} numbers")
        sums.append(time)
    found = Benchmark(
        version=version("polyclinic"),
        machine=machine,
        repeats=plan.repeats,
        job=job,
        steps=steps,
        growth=growth,
        sums=sums,
        targets=targets(job, steps, growth, sums),
        notes=_notes(machine.load, ray=ray),
    )
    write_atomically(out / "benchmark.json", found.model_dump_json(indent=1).encode())
    write_atomically(out / "benchmark.html", render_page(found).encode())
    return found


def _notes(load: float, *, ray: bool) -> list[str]:
    notes = []
    if load > 0.5:
        notes.append(
            f"Other work was running when this began (load {load:g}): trust ratios and medians, "
            "not seconds."
        )
    if not ray:
        notes.append("The Ray engine was not measured: it is an optional extra.")
    return notes
