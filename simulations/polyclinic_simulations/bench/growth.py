"""How time and memory grow with sites, patients and columns; every point in a fresh process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from statistics import median

import torch

from polyclinic_common.models.head import length_of
from polyclinic_simulations.bench.federated import made_up_federation, train
from polyclinic_simulations.bench.records import GrowthPoint
from polyclinic_simulations.bench.size import Size
from polyclinic_simulations.bench.steps import head_name
from polyclinic_simulations.bench.worker import peak_mb

NUMBER = 8
"""Bytes of a float64."""
JOB = Size(rounds=3)
MANY_PATIENTS = Size(sites=50, hidden=(), rounds=3, schedule="full")
MANY_COLUMNS = Size(patients=100, rounds=3, schedule="full")


@dataclass(frozen=True)
class Point:
    """A point to be measured: its curve, what varies, and the job."""

    curve: str
    at: int
    size: Size
    gradients: str = "fast"


def points(sites: Sequence[int], patients: Sequence[int], columns: Sequence[int]) -> list[Point]:
    """Return all points: `patients` are those of all sites together."""
    found = [
        Point("sites", count, replace(JOB, sites=count), gradients)
        for gradients in ("fast", "opacus")
        for count in sites
    ]
    found += [
        Point("patients", count, replace(MANY_PATIENTS, patients=count // MANY_PATIENTS.sites))
        for count in patients
    ]
    found += [
        Point("columns", count, replace(MANY_COLUMNS, columns=count, hidden=hidden))
        for hidden in ((), (32,))
        for count in columns
    ]
    return found


def measure_growth(chosen: Sequence[Point]) -> Iterator[GrowthPoint]:
    """Measure one point after the other, each in a process forked from one that is prepared."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as executor:
        yield from executor.map(measure_point, chosen)


def measure_point(point: Point) -> GrowthPoint:
    """Train a small job to warm up, then the one asked for; memory counts from in between."""
    torch.set_num_threads(1)
    size = point.size
    train(made_up_federation(replace(size, sites=2, patients=20, columns=5)), point.gradients)
    federation = made_up_federation(size)
    parameters = length_of(federation.study)
    before = peak_mb()
    seconds = train(federation, point.gradients)
    everybody = size.sites * size.patients
    return GrowthPoint(
        curve=point.curve,
        at=point.at,
        head=head_name(size.hidden),
        gradients=point.gradients,
        sites=size.sites,
        patients=everybody,
        columns=size.columns,
        parameters=parameters,
        first_s=seconds[0],
        round_s=median(seconds[1:] or seconds),
        peak_mb=peak_mb(),
        beyond_mb=peak_mb() - before,
        patients_mb=everybody * (federation.encoding.width + 2) * NUMBER / 1e6,
        product_mb=everybody * parameters * NUMBER / 1e6,
    )
