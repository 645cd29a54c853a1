"""What the benchmark found: the typed form of ``benchmark.json``."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from polyclinic_simulations.results import Record


class Spread(Record):
    """Lowest, median and highest of the repeats."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise repeats."""
        return cls(low=min(values), median=median(values), high=max(values))


class Machine(Record):
    """Where it was measured. `load` is the mean number of busy processes before it began."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    libraries: dict[str, str]
    load: float


class JobTime(Record):
    """One variant of job J: start to finish with imports, its rounds alone, and peak memory.

    `ratio_*` are times divided by those of the bare Opacus loop in the same repeat.
    """

    variant: str
    total_s: Spread
    rounds_s: Spread
    peak_mb: float
    ratio_total: Spread
    ratio_rounds: Spread


class StepTime(Record):
    """Milliseconds of a DP-SGD step (clipped sum, noise, update) and of the clipped sum alone.

    `difference` is the distance of the clipped sum from that of the hooks, relative to its norm;
    `faster` and `faster_sum` are the time with hooks divided by this one's.
    """

    head: str
    gradients: str
    step_ms: Spread
    sum_ms: Spread
    faster: Spread
    faster_sum: Spread
    difference: float


class GrowthPoint(Record):
    """One point of a curve.

    `first_s` is the first round, in which the sites are made; `round_s` the median of the others.
    `peak_mb` is the whole process; `beyond_mb` what training added to process and patients;
    `patients_mb` the encoded patients; `product_mb` one number a patient and parameter.
    """

    curve: str
    at: int
    head: str
    gradients: str
    sites: int
    patients: int
    columns: int
    parameters: int
    first_s: float
    round_s: float
    peak_mb: float
    beyond_mb: float
    patients_mb: float
    product_mb: float


class Target(Record):
    """A figure to reach."""

    what: str
    goal: str
    found: str
    met: bool


class Benchmark(Record):
    """Everything that was measured in one run."""

    version: str
    machine: Machine
    repeats: int
    job: list[JobTime]
    steps: list[StepTime]
    growth: list[GrowthPoint]
    targets: list[Target]
    notes: list[str]
