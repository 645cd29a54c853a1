"""Defects of the kind that void a privacy guarantee, each put into the running product.

The product has no switch for any of them: classes and functions are exchanged from here, before
the tests import them. Defects in parts of the noise are in ``holes.py``, those in what a hospital
does besides computing in ``conduct.py``.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import torch

from polyclinic_client.compute import integers
from polyclinic_client.gate import permitted
from polyclinic_client.ledger import state
from polyclinic_common.packing import pack
from polyclinic_common.privacy import noise, streams, sum_plan
from polyclinic_common.releases import kinds, plans, schedule
from polyclinic_common.secure_sum import masks
from polyclinic_simulations.compute import fast_gradients, ghost_norms
from tests.audit import conduct, holes
from tests.audit.registry import MUTATIONS, mutation, put

__all__ = ["MUTATIONS", "conduct", "holes"]


@mutation("test_every_coordinate_is_noisy.py")
def noise_times_seven_tenths() -> None:
    """All noise is 0.7 of what is charged."""
    discrete, gaussian = noise.SystemNoise.discrete, noise.SystemNoise.gaussian

    @wraps(discrete)
    def smaller(source: Any, size: int, variance: int, context: bytes) -> Any:
        return np.rint(0.7 * discrete(source, size, variance, context)).astype(np.int64)

    put(noise.SystemNoise, "discrete", smaller)
    put(noise.SystemNoise, "gaussian", wraps(gaussian)(lambda *args: 0.7 * gaussian(*args)))


@mutation("test_integer_path.py")
def no_clip() -> None:
    """Gradients are not clipped, on any path."""
    put(integers, "on_grid", lambda rows, _, grid: whole(rows, grid))
    put(fast_gradients.ClosedForm, "_factors", lambda *args: np.ones_like(args[3]))


def whole(rows: Any, grid: float) -> Any:
    """Return rows in grid units; what is not finite counts as zero."""
    return np.rint(np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0) / grid).astype(np.int64)


@mutation("test_integer_path.py")
def clip_after_the_sum() -> None:
    """The sum over patients is clipped, instead of every patient."""
    summed = fast_gradients.ClosedForm.gradient_sum

    def rows_sum(sums: Any, weights: Any, blocks: Any) -> Any:
        total = sum(sums.engine.patient_gradients(weights, block).sum(axis=0) for block in blocks)
        return whole(clipped(np.asarray(total), sums.clip), sums.grid)

    def products(engine: Any, weights: Any, blocks: Any) -> Any:
        total = summed(engine, weights, blocks)
        return total if engine._clip is None else clipped(total, engine._clip)

    put(integers.SummedRows, "integer_sum", rows_sum)
    put(fast_gradients.ClosedForm, "_factors", lambda *args: np.ones_like(args[3]))
    put(fast_gradients.ClosedForm, "gradient_sum", products)


def clipped(total: Any, clip: float) -> Any:
    return total * (clip / max(clip, float(np.linalg.norm(total))))


@mutation("test_patient_gradients.py")
def ghost_loss_of_shape_B_1() -> None:  # noqa: N802  (as the trap is written)
    """Losses come as a column, which voids Opacus' ghost clipping, and nobody looks."""

    def column(loss: Any, network: Any, block: Any) -> Any:
        x, y, mask = (torch.from_numpy(part) for part in block)
        losses = loss(network(x), y, mask)
        return losses if losses.dim() == 2 else losses[:, None]

    put(ghost_norms, "patient_losses", column)


@mutation("test_every_coordinate_is_noisy.py")
def noise_reused() -> None:
    """A source draws once, and gives the same noise again."""
    discrete, drawn = noise.SystemNoise.discrete, dict[tuple[int, int], Any]()

    @wraps(discrete)
    def again(source: Any, size: int, variance: int, context: bytes) -> Any:
        if (size, variance) not in drawn:
            drawn[size, variance] = discrete(source, size, variance, context)
        return drawn[size, variance].copy()

    put(noise.SystemNoise, "discrete", again)


@mutation("test_streams.py")
def noise_seeded() -> None:
    """Noise comes from NumPy's global generator, which anybody can seed."""

    def stream(*_: bytes) -> streams.Stream:
        return streams.Stream(np.random.bytes(streams.KEY_BYTES))  # noqa: NPY002

    put(streams, "derived_stream", stream)
    put(streams, "system_stream", stream)
    put(noise, "derived_stream", stream)
    put(noise, "system_stream", stream)


@mutation("test_noise_is_what_is_charged.py")
def wrong_divisor_of_the_budget() -> None:
    """The budget is shared out among half the rounds."""
    honest = sum_plan.plan_sum

    @wraps(honest)
    def planned(epsilon: float, delta: float, rounds: int, *args: Any, **names: Any) -> Any:
        made = honest(epsilon, delta, max(1, rounds // 2), *args, **names)
        return replace(made, rounds=rounds)

    put(plans, "plan_sum", planned)
    put(schedule, "plan_sum", planned)
    put(sum_plan, "plan_sum", planned)


@mutation("test_neighbours.py")
def wrong_h() -> None:
    """One share more than honest hospitals give counts in the headline."""
    honest = sum_plan.plan_sum

    @wraps(honest)
    def planned(
        epsilon: float,
        delta: float,
        rounds: int,
        length: int,
        clip: float,
        shares: int,
        **names: Any,
    ) -> Any:
        more = shares + 1 if shares > 1 else shares
        return honest(epsilon, delta, rounds, length, clip, more, **names)

    put(plans, "plan_sum", planned)
    put(schedule, "plan_sum", planned)


@mutation("test_neighbours.py", audited=False)
def one_charge_skipped() -> None:
    """The second release of a run is stored and never counted."""
    honest = state.LedgerState._reserve

    def skipping(account: Any, entry: Any, sequence: int) -> None:
        honest(account, entry, sequence)
        if entry.release.round_number == 2:
            account.counted[entry.fallback] -= 1
            account.fallback[entry.fallback] -= 1

    put(state.LedgerState, "_reserve", skipping)


@mutation("test_gate.py", audited=False)
def metric_released_uncharged() -> None:
    """The gate does not ask the ledger for metrics."""
    honest = permitted.Permitted._check_vector

    def lenient(guard: Any, release: Any, asked: Any) -> Any:
        if getattr(release, "kind", None) == kinds.METRICS:
            return None
        return honest(guard, release, asked)

    put(permitted.Permitted, "_check_vector", lenient)


@mutation("test_secure_sum.py", audited=False)
def keystream_reused() -> None:
    """The view names neither round nor kind: two sums of a run share their masks' keys."""

    def digest(view: Any) -> bytes:
        people = [[p.identity, p.ephemeral, p.epoch] for p in view.participants]
        return hashlib.sha256(pack(["polyclinic view", view.study_hash, people])).digest()

    put(masks.View, "digest", digest)


@mutation("test_ledger.py", audited=False)
def fallback_not_charged() -> None:
    """A release counts its headline from the beginning, settled or not."""
    honest = state.LedgerState._reserve

    def cheap(account: Any, entry: Any, sequence: int) -> None:
        honest(account, entry, sequence)
        account.counted[entry.fallback] -= 1
        account.counted[entry.headline] += 1

    put(state.LedgerState, "_reserve", cheap)
    put(state.ReleaseState, "counts", property(lambda held: held.reserved.headline))
