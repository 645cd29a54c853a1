"""Milliseconds of one round of mode secure-sum, beside Flower's SecAgg+ and bare pairwise masks."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from polyclinic_common.secure_sum.masks import Integers, Words
from polyclinic_simulations.bench.flower_secagg import QUANTA, run_round
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
SECAGG, BARE = "SecAgg+", "bare"
Parts = dict[str, float]


def measure_sums(hospitals: Sequence[int], lengths: Sequence[int], repeats: int) -> list[SumTime]:
    """Measure every pair of hospitals and length, `repeats` rounds each after one to warm up."""
    return [measure_sum(count, length, repeats) for length in lengths for count in hospitals]


def measure_sum(hospitals: int, length: int, repeats: int) -> SumTime:
    """Measure rounds of `hospitals` hospitals that sum vectors of `length` entries.

    In each repeat ours, SecAgg+ and bare masks take turns, all on the same vectors.
    """
    patients = max(1, min(MOST_PATIENTS, MOST_NUMBERS // length))
    case = Case(hospitals, length, patients, rounds=repeats + 1)
    with TemporaryDirectory() as place:
        consortium = Consortium(case, Path(place))
        try:
            consortium.sum(1)
            keys = [watch.take()[KEYS] for watch in consortium.watches.values()]
            consortium.server.take()
            rounds = [_Round(consortium, number) for number in range(2, repeats + 2)]
        finally:
            consortium.close()
    return _summary(case, rounds, keys)


class _Round:
    """One repeat: the median of the sites by part, the server, and the others at the same task."""

    def __init__(self, consortium: Consortium, number: int):
        total = consortium.sum(number)
        self.site = _typical([_parts(watch.take()) for watch in consortium.watches.values()])
        self.server = consortium.server.take()
        plain = consortium.plain(number)
        self.exact = bool((np.sum(plain, axis=0) == total).all())
        floats = [vector * consortium.grid for vector in plain]
        bound = 1.01 * max(float(np.abs(vector).max()) for vector in floats)
        found = run_round(floats, bound)
        stages = [
            dict(zip(found.site_ms, each, strict=True))
            for each in zip(*found.site_ms.values(), strict=True)
        ]
        self.secagg, self.secagg_server = _typical(stages), found.server_ms
        off = np.abs(found.total - total * consortium.grid).max()
        self.secagg_off = float(off) * QUANTA / (2.0 * bound)
        self.bare_site, self.bare_server, bare = bare_masks(plain)
        self.exact = self.exact and bool((bare == total).all())


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


def _summary(case: Case, rounds: Sequence[_Round], keys: Sequence[float]) -> SumTime:
    def over(values: Sequence[Parts]) -> dict[str, Spread]:
        return {part: Spread.of([each[part] for each in values]) for part in values[0]}

    secagg = [sum(each.secagg.values()) for each in rounds]
    beside = [sum(each.site.values()) - each.site[GRADIENTS] for each in rounds]
    masks = [each.site[MASKS] for each in rounds]
    servers = [each.server[SUM] for each in rounds]
    secagg_servers = [each.secagg_server for each in rounds]
    return SumTime(
        hospitals=case.hospitals,
        length=case.length,
        patients=case.patients,
        site_ms=over([each.site for each in rounds]),
        site=Spread.of([sum(each.site.values()) for each in rounds]),
        keys=Spread.of(keys),
        server=Spread.of(servers),
        messages=Spread.of([each.server[MESSAGES] for each in rounds]),
        secagg_ms=over([each.secagg for each in rounds]),
        secagg_site=Spread.of(secagg),
        secagg_server=Spread.of(secagg_servers),
        bare_site=Spread.of([each.bare_site for each in rounds]),
        bare_server=Spread.of([each.bare_server for each in rounds]),
        masks_faster=_ratio(secagg, masks),
        site_faster=_ratio(secagg, beside),
        server_faster=_ratio(secagg_servers, servers),
        exact=all(each.exact for each in rounds),
        secagg_off=max(each.secagg_off for each in rounds),
    )


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    return Spread.of([above / below for above, below in zip(theirs, ours, strict=True)])
