"""Milliseconds of one DP-SGD step at equal numbers, by what gives the gradients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from polyclinic_client.compute.gradients import OpacusRows
from polyclinic_client.compute.integers import GridSums, SummedRows
from polyclinic_client.compute.local_releases import ModelRelease, SampledCohort
from polyclinic_client.compute.training import local_mechanism, sampled_grid
from polyclinic_common.models.head import build_network
from polyclinic_common.models.losses import LOSSES
from polyclinic_common.models.score_head import Vector, weight_count
from polyclinic_common.models.torch_head import ResponseNetwork
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_simulations.bench.federated import made_up_federation
from polyclinic_simulations.bench.records import Spread, StepTime
from polyclinic_simulations.bench.size import SEED, Size
from polyclinic_simulations.compute.ghost_norms import ClippedByGhostNorms
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation

HOOKS, LIBRARY = "Opacus, row by row", "Opacus, library layers"
GHOST, FAST = "Opacus, ghost norms", "closed form"
EQUAL = 1e-5
Work = Callable[[], Vector]


def measure_steps(sizes: list[Size], repeats: int, steps: int) -> list[StepTime]:
    """Time `steps` steps of every engine, `repeats` times in turn, on one site's patients."""
    torch.set_num_threads(1)
    return [time_ for size in sizes for time_ in _measure(size, repeats, steps)]


def _measure(size: Size, repeats: int, steps: int) -> list[StepTime]:
    federation = made_up_federation(replace(size, sites=2))
    network = build_network(federation.study, federation.encoding)
    generator = np.random.default_rng(SEED)
    weights = generator.normal(0.0, 0.5, weight_count(network))
    rows = np.sort(generator.choice(size.patients, min(size.batch, size.patients), replace=False))
    sums = _sampled_steps(federation)
    whole = {name: _step(each, weights, rows) for name, each in sums.items()}
    alone = {name: _sum(each, weights, rows) for name, each in sums.items()}
    step_ms, sum_ms = (_milliseconds(work, repeats, steps) for work in (whole, alone))
    found = {name: work() for name, work in alone.items()}
    return [
        StepTime(
            head=head_name(size.hidden),
            gradients=name,
            step_ms=Spread.of(step_ms[name]),
            sum_ms=Spread.of(sum_ms[name]),
            faster=_ratio(step_ms[HOOKS], step_ms[name]),
            faster_sum=_ratio(sum_ms[HOOKS], sum_ms[name]),
            difference=float(
                np.linalg.norm(found[name] - found[HOOKS]) / np.linalg.norm(found[HOOKS])
            ),
        )
        for name in sums
    ]


def head_name(hidden: tuple[int, ...]) -> str:
    """Return the name of a head."""
    return f"MLP {'-'.join(map(str, hidden))}" if hidden else "linear"


def _ratio(slow: list[float], quick: list[float]) -> Spread:
    return Spread.of([above / below for above, below in zip(slow, quick, strict=True)])


def _sampled_steps(federation: Federation) -> dict[str, SampledCohort]:
    """Return a site's noisy sums, composed as in a simulation, by kind of gradients."""
    opacus, fast = _site_step(federation, "opacus"), _site_step(federation, "fast")
    study = federation.study
    network = build_network(study, federation.encoding)
    grid = sampled_grid(study.clip, weight_count(network))
    rows = OpacusRows(ResponseNetwork(network), study.loss)
    library = GridSums(SummedRows(rows, study.clip, grid), grid)
    ghost = ClippedByGhostNorms(network, LOSSES[study.loss], study.clip)
    return {
        HOOKS: opacus,
        LIBRARY: replace(opacus, engine=library),
        GHOST: replace(opacus, engine=ghost),
        FAST: fast,
    }


def _site_step(federation: Federation, gradients: str) -> SampledCohort:
    study, site = federation.study, federation.sites[0]
    private = Trainer(gradients).private(study, federation.encoding)
    mechanism = local_mechanism(study, private, site.train, site.declared, SystemNoise())
    if isinstance(mechanism, ModelRelease) and isinstance(mechanism.steps.step, SampledCohort):
        return mechanism.steps.step
    raise TypeError("the sampled schedule takes steps on samples and releases models")


def _step(sums: SampledCohort, weights: Vector, rows: NDArray[np.int64]) -> Work:
    return lambda: weights - 0.5 * (sums.of_rows(weights, rows) / len(rows))


def _sum(sums: SampledCohort, weights: Vector, rows: NDArray[np.int64]) -> Work:
    return lambda: sums.engine.gradient_sum(weights, sums.patients.blocks(rows))


def _milliseconds(works: dict[str, Work], repeats: int, steps: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):  # the first one warms up
        for name, work in works.items():
            began = time.perf_counter()
            for _ in range(steps):
                work()
            if repeat:
                found[name].append(1e3 * (time.perf_counter() - began) / steps)
    return found
