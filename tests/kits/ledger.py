"""A small hospital for the tests of ledger and journal."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_client.ledger.ledger import Ledger, Stored
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain

ME = Identity.from_private(bytes(range(32)))
PEERS = tuple(Identity.from_private(bytes([number]) * 32).public for number in (1, 2, 3))
CHAIN: Chain = (tuple(sorted((ME.public, *PEERS))),)
LEFT_OUT: Chain = (*CHAIN, tuple(sorted(PEERS)))
STUDY = bytes(32)
DELTA = 1e-5
HEADLINE = GaussianSum(sensitivity=600.0, variance=2**24, shares=3, length=4)
FALLBACK = GaussianSum(sensitivity=600.0, variance=2**24, shares=1, length=4)
EPOCH = b"e" * 16


def release(number: int, run: str = "run", kind: str = "gradient") -> ReleaseId:
    return ReleaseId(run, number, kind)


def approval(
    rounds: int = 6, lost_rounds: int = 6, run: str | None = "run", **changes: Any
) -> Approval:
    planned = Planned(kind="gradient", releases=rounds, headline=HEADLINE, fallback=FALLBACK)
    return Approval(
        **{
            "study_hash": STUDY,
            "run": run,
            "planned": (planned,),
            "lost_rounds": lost_rounds,
            "expires": dt.date(2099, 12, 31),
        }
        | changes
    )


def make_ledger(folder: Path, *, approve: bool = True, cap: float = 100.0, **more: Any) -> Ledger:
    ledger = Ledger.create(folder / "ledger.sqlite", ME, delta=DELTA, epsilon_cap=cap, **more)
    if approve:
        ledger.approve(approval())
    return ledger


def open_ledger(folder: Path, **more: Any) -> Ledger:
    return Ledger.open(folder / "ledger.sqlite", ME, **more)


def draw(seed: int) -> NDArray[np.int64]:
    """Return what would be a fresh noisy vector."""
    return np.random.default_rng(seed).integers(-1000, 1000, 4)


def request(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return what is asked in a round."""
    return {
        "headline": HEADLINE,
        "fallback": FALLBACK,
        "broadcast": digest(f"model {number}"),
        "transcript": digest(f"history {number}"),
        "clip": 0.25,
        "grid_exponent": -20,
    } | changes


def reserve(
    ledger: Ledger, number: int = 1, seed: int = 0, run: str = "run", **changes: Any
) -> Stored:
    """Reserve a round with a fresh draw."""
    vector = changes.pop("vector", None)
    return ledger.reserve(
        release(number, run),
        changes.pop("study_hash", STUDY),
        vector=draw(seed) if vector is None else vector,
        **request(number, **changes),
    )


def attempt(ledger: Ledger, number: int = 1, chain: Chain = CHAIN, **changes: Any) -> None:
    ledger.record_attempt(
        release(number),
        **{"epoch": EPOCH, "chain": chain, "payload_hash": digest("payload")} | changes,
    )


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
