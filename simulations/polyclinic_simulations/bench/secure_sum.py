"""Milliseconds of one round of mode secure-sum, beside Flower's SecAgg+ and bare pairwise masks.

``python -m … HOSPITALS LENGTH REPEATS`` measures one case and writes one line of JSON.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from polyclinic_common.secure_sum.masks import Integers, Words
from polyclinic_simulations.bench.flower_secagg import QUANTA, run_round
from polyclinic_simulations.bench.job import ONE_THREAD
from polyclinic_simulations.bench.records import Spread, SumTime
from polyclinic_simulations.bench.sum_sites import (
    GATE,
    GRADIENTS,
    KEYS,
    LEDGER,
    MASKS,
    MESSAGES,
    NOISE,
    REST,
    SUM,
    Case,
    Consortium,
)

PARTS = (GRADIENTS, NOISE, LEDGER, MASKS, GATE, REST)
MOST_PATIENTS, MOST_NUMBERS = 500, 10_000_000
Parts = dict[str, float]


def measure_sums(
    hospitals: Sequence[int], lengths: Sequence[int], repeats: int
) -> Iterator[SumTime]:
    """Measure every pair of hospitals and length, each in a process with one thread a library."""
    command = [sys.executable, "-m", "polyclinic_simulations.bench.secure_sum"]
    for length in lengths:
        for count in hospitals:
            done = subprocess.run(  # noqa: S603  (this interpreter, this package)
                [*command, str(count), str(length), str(repeats)],
                env={**os.environ, **ONE_THREAD},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            yield SumTime.model_validate_json(done.stdout.splitlines()[-1])


def measure_sum(hospitals: int, length: int, repeats: int) -> SumTime:
    """Measure `repeats` rounds of hospitals that sum vectors of `length` entries, after one more.

    Bare masks sum the same vectors in every repeat, SecAgg+ in the first: it takes longest, and
    gives as many times as there are hospitals.
    """
    patients = max(1, min(MOST_PATIENTS, MOST_NUMBERS // length))
    case = Case(hospitals, length, patients, rounds=repeats + 1)
    with TemporaryDirectory() as place:
        consortium = Consortium(case, Path(place))
        try:
            consortium.sum(1)
            keys = [watch.take()[0][KEYS] for watch in consortium.watches.values()]
            consortium.server.take()
            rounds = [_Round(consortium, 2)]
            secagg = _SecAgg(rounds[0])
            rounds += [_Round(consortium, number) for number in range(3, repeats + 2)]
        finally:
            consortium.close()
    return _summary(case, rounds, secagg, keys)


class _Round:
    """One repeat: the median of the sites by part, the server, and the others at the same task."""

    def __init__(self, consortium: Consortium, number: int):
        total = consortium.sum(number)
        taken = [watch.take() for watch in consortium.watches.values()]
        self.site = _typical([_parts(spent) for spent, _ in taken])
        self.masks_cpu = median(busy[MASKS] for _, busy in taken)
        self.server, server_busy = consortium.server.take()
        self.server_cpu = server_busy[SUM]
        plain = consortium.plain(number)
        self.vectors = [vector.astype(np.float64) * consortium.grid for vector in plain]
        self.total = total * consortium.grid
        self.bare_site, self.bare_server, bare = bare_masks(plain)
        self.exact = all((each == total).all() for each in (bare, np.sum(plain, axis=0)))


class _SecAgg:
    """Flower's SecAgg+ on the vectors of a round."""

    def __init__(self, same: _Round):
        bound = 1.01 * max(float(np.abs(vector).max()) for vector in same.vectors)
        found = run_round(same.vectors, bound)
        self.site = {stage: median(times) for stage, times in found.site_ms.items()}
        self.server = found.server_ms
        self.site_cpu, self.server_cpu = found.site_cpu_ms, found.server_cpu_ms
        self.off = float(np.abs(found.total - same.total).max()) * QUANTA / (2.0 * bound)


def _parts(spent: Parts) -> Parts:
    """Return the time of a site by part; checking keys that are agreed already is of the rest."""
    found = {part: spent.get(part, 0.0) for part in PARTS}
    found[REST] += spent.get(KEYS, 0.0)
    return found


def _typical(sites: Sequence[Parts]) -> Parts:
    return {part: median(site[part] for site in sites) for part in sites[0]}


def bare_masks(vectors: Sequence[Integers]) -> tuple[float, float, Integers]:
    """Mask with one ChaCha20 stream a pair from keys at hand, and sum: nothing else.

    Returns
    -------
    site_ms, server_ms : float
        The median site; adding up.
    total : array of shape (d,), int64
        The sum.
    """
    pairs = combinations(range(len(vectors)), 2)
    keys = {pair: os.urandom(32) for pair in pairs}
    zeros, times, masked = bytes(8 * len(vectors[0])), [], []
    for site, vector in enumerate(vectors):
        began = time.perf_counter()
        total = vector.view(np.uint64).copy()
        for peer in range(len(vectors)):
            if peer == site:
                continue
            key = keys[min(site, peer), max(site, peer)]
            stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(zeros)
            total = (np.add if site < peer else np.subtract)(total, np.frombuffer(stream, "<u8"))
        times.append(1e3 * (time.perf_counter() - began))
        masked.append(total)
    began = time.perf_counter()
    summed = _added(masked)
    return median(times), 1e3 * (time.perf_counter() - began), summed


def _added(masked: Sequence[Words]) -> Integers:
    total = np.zeros_like(masked[0])
    for vector in masked:
        total += vector
    return total.view(np.int64)


def _summary(
    case: Case, rounds: Sequence[_Round], secagg: _SecAgg, keys: Sequence[float]
) -> SumTime:
    theirs = sum(secagg.site.values())
    whole = [sum(each.site.values()) for each in rounds]
    beside = [sum(each.site.values()) - each.site[GRADIENTS] for each in rounds]
    servers = [each.server[SUM] for each in rounds]
    return SumTime(
        hospitals=case.hospitals,
        length=case.length,
        patients=case.patients,
        site_ms={part: Spread.of([each.site[part] for each in rounds]) for part in PARTS},
        site=Spread.of(whole),
        keys=Spread.of(keys),
        server=Spread.of(servers),
        messages=Spread.of([each.server[MESSAGES] for each in rounds]),
        masks_cpu=Spread.of([each.masks_cpu for each in rounds]),
        server_cpu=Spread.of([each.server_cpu for each in rounds]),
        secagg_site_cpu=secagg.site_cpu,
        secagg_server_cpu=secagg.server_cpu,
        secagg_ms=secagg.site,
        secagg_server=secagg.server,
        bare_site=Spread.of([each.bare_site for each in rounds]),
        bare_server=Spread.of([each.bare_server for each in rounds]),
        masks_faster=Spread.of([theirs / each.site[MASKS] for each in rounds]),
        site_faster=Spread.of([theirs / each for each in beside]),
        server_faster=Spread.of([secagg.server / each for each in servers]),
        exact=all(each.exact for each in rounds),
        secagg_off=secagg.off,
    )


if __name__ == "__main__":
    sys.stdout.write(measure_sum(*map(int, sys.argv[1:])).model_dump_json() + "\n")
