"""What the benchmark found: the typed form of ``benchmark.json``."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from polyclinic_simulations.results.results import Record


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


class SumTime(Record):
    """One round of mode secure-sum: milliseconds of the median site, and of the server.

    `site_ms` is by part, `site` the whole answer; `keys` the key exchange, once a run; `server`
    what the server does beside sending and reading messages (`messages`); `*_cpu` processor time.
    `secagg_*` is Flower's SecAgg+ by stage, `bare_*` one stream a pair and nothing else, on the
    same vectors. `masks_faster` is SecAgg+'s site divided by our masks, `site_faster` by all of
    ours but the gradients. `exact`: ours and the bare masks gave the plain sum; `secagg_off`: how
    far SecAgg+ was from it, in the quanta to which it rounds every vector.
    """

    hospitals: int
    length: int
    patients: int
    site_ms: dict[str, Spread]
    site: Spread
    keys: Spread
    server: Spread
    messages: Spread
    masks_cpu: Spread
    server_cpu: Spread
    secagg_ms: dict[str, float]
    secagg_server: float
    secagg_site_cpu: float
    secagg_server_cpu: float
    bare_site: Spread
    bare_server: Spread
    masks_faster: Spread
    site_faster: Spread
    server_faster: Spread
    exact: bool
    secagg_off: float


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
    sums: list[SumTime]
    targets: list[Target]
    notes: list[str]
