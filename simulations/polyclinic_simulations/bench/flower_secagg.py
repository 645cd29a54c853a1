"""Flower's own SecAgg+ on the benchmark's vectors: its client stages, and its server's unmasking.

The one file of the benchmark that reaches behind Flower's public interface. Sites run Flower's
four stages as they are; the server's part is a local function of its workflow and repeated here
call by call, for a round in which nobody drops out. No messages: calls alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from polyclinic_common.models.score_head import Vector

QUANTA, MODULUS, WEIGHT = 2**22, 2**32, 1000
"""The workflow's defaults."""
KEYS, SHARES, MASKS, UNMASK = "keys", "secret shares", "masks", "reveal"
Fields = dict[str, Any]


@dataclass
class SecAggRound:
    """One round: milliseconds of every client by stage, of the server, and the sum it found.

    Attributes
    ----------
    site_ms : mapping
        One number a client, by stage.
    server_ms : float
        Adding up, putting seeds together, taking masks off, dequantizing.
    site_cpu_ms, server_cpu_ms : float
        Processor time of the mean client, and of the server.
    total : array of shape (d,)
        The sum of the clients' vectors, in their unit; every one rounded to a quantum.
    """

    site_ms: dict[str, list[float]] = field(default_factory=dict)
    server_ms: float = 0.0
    site_cpu_ms: float = 0.0
    server_cpu_ms: float = 0.0
    total: Vector = field(default_factory=lambda: np.empty(0))


def run_round(vectors: Sequence[Vector], bound: float) -> SecAggRound:
    """Sum vectors, every entry within [-bound, bound], through SecAgg+; all clients stay."""
    found, count = SecAggRound(), len(vectors)
    everybody = list(range(1, count + 1))
    states = {nid: SecAggPlusState(nid=nid) for nid in everybody}

    groups = _groups(everybody)

    def stage(name: str, work: Callable[..., Fields], told: dict[int, Fields]) -> dict[int, Fields]:
        said: dict[int, Fields] = {}
        for nid, vector in zip(everybody, vectors, strict=True):
            rest = (WEIGHT, ndarrays_to_parameters([vector])) if name == MASKS else ()
            began, busy = time.perf_counter(), time.process_time()
            said[nid] = work(states[nid], ConfigRecord(told[nid]), *rest)
            found.site_ms.setdefault(name, []).append(1e3 * (time.perf_counter() - began))
            found.site_cpu_ms += 1e3 * (time.process_time() - busy) / count
        return said

    settings = _settings(len(groups[1]), count, bound)
    keys = stage(KEYS, _setup, dict.fromkeys(everybody, settings))
    public = {nid: [said[Key.PUBLIC_KEY_1], said[Key.PUBLIC_KEY_2]] for nid, said in keys.items()}
    known = {nid: {str(peer): public[peer] for peer in group} for nid, group in groups.items()}
    masked = stage(MASKS, _collect_masked_vectors, _forwarded(stage(SHARES, _share_keys, known)))
    alive = {
        nid: {Key.ACTIVE_NODE_ID_LIST: group, Key.DEAD_NODE_ID_LIST: []}
        for nid, group in groups.items()
    }
    revealed = stage(UNMASK, _unmask, alive)
    began, busy = time.perf_counter(), time.process_time()
    average = _unmasked([said[Key.MASKED_PARAMETERS] for said in masked.values()], revealed, bound)
    found.server_ms = 1e3 * (time.perf_counter() - began)
    found.server_cpu_ms = 1e3 * (time.process_time() - busy)
    found.total = count * average
    return found


def _groups(everybody: Sequence[int]) -> dict[int, list[int]]:
    """Return who shares with whom: a ring, 3 log2 K of K clients and oneself, an odd number.

    SecAgg+ is SecAgg on such a sparse graph (Bell, Bonawitz, Gascon, Lepoint and Raykova, CCS
    2020): that few is in its favour, for here every pair of hospitals has a mask.
    """
    count = len(everybody)
    half = math.ceil(3 * math.log2(count)) // 2
    if 2 * half + 1 >= count:
        return {nid: list(everybody) for nid in everybody}
    offsets = range(-half, half + 1)
    return {
        nid: [everybody[(index + offset) % count] for offset in offsets]
        for index, nid in enumerate(everybody)
    }


def _settings(shares: int, count: int, bound: float) -> Fields:
    return {
        Key.SAMPLE_NUMBER: count,
        Key.SHARE_NUMBER: shares,
        Key.THRESHOLD: math.ceil(2 * shares / 3),
        Key.CLIPPING_RANGE: bound,
        Key.TARGET_RANGE: QUANTA,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: float(WEIGHT),
    }


def _forwarded(shared: dict[int, Fields]) -> dict[int, Fields]:
    """Return what the server passes on to every client: the shares that the others made for it."""
    inbox: dict[int, tuple[list[int], list[bytes]]] = {nid: ([], []) for nid in shared}
    for source, said in shared.items():
        pairs = zip(said[Key.DESTINATION_LIST], said[Key.CIPHERTEXT_LIST], strict=True)
        for destination, ciphertext in pairs:
            inbox[destination][0].append(source)
            inbox[destination][1].append(ciphertext)
    return {
        nid: {Key.SOURCE_LIST: who, Key.CIPHERTEXT_LIST: what} for nid, (who, what) in inbox.items()
    }


def _unmasked(masked: list[list[bytes]], revealed: dict[int, Fields], bound: float) -> Vector:
    """Return the average, as `collect_masked_vectors_stage` and `unmask_stage` of the workflow."""
    total = [bytes_to_ndarray(data) for data in masked[0]]
    for arrays in masked[1:]:
        total = parameters_addition(total, [bytes_to_ndarray(data) for data in arrays])
    total = parameters_mod(total, MODULUS)
    shares: dict[int, list[bytes]] = {}
    for said in revealed.values():
        for owner, share in zip(said[Key.NODE_ID_LIST], said[Key.SHARE_LIST], strict=True):
            shares.setdefault(owner, []).append(share)
    for held in shares.values():
        seed = combine_shares(held)
        mask = pseudo_rand_gen(seed, MODULUS, get_parameters_shape(total))
        total = parameters_subtraction(total, mask)
    ratio, total = factor_extract(parameters_mod(total, MODULUS))
    (average,) = dequantize(total, bound, QUANTA)
    average += -(len(masked) - 1) * bound
    average *= QUANTA / ratio
    return np.asarray(average, dtype=np.float64)
