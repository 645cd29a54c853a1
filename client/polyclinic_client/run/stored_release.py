"""The one place where a release is drawn, charged, stored and recorded: once, and then the same.

What a release is drawn from does not matter here. If it is stored already, that vector is taken;
if not, everything that the ledger would refuse is refused before patients are read. Charge,
vector and payload are written in one transaction, before anything leaves: whoever is killed on the
way has either all of them or nothing, and then nothing left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from polyclinic_client.compute.integers import Moment
from polyclinic_client.ledger.ledger import Ledger, Stored
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain
from polyclinic_common.secure_sum.masks import Integers

P = TypeVar("P")


@dataclass(frozen=True)
class Wanted:
    """A release that is asked for.

    Attributes
    ----------
    release : ReleaseId
        Run, round and kind.
    study_hash : bytes
        The study.
    headline, fallback : Charge
        What it costs, as approved; equal where it is private on its own.
    broadcast, transcript : bytes
        Hash of the model that was sent out; digest of the run's history, where there is one.
    clip : float
        Bound on one patient.
    grid_exponent : int
        It is in units of 2 to this power.
    length : int
        Its entries.
    """

    release: ReleaseId
    study_hash: bytes
    headline: Charge
    fallback: Charge
    broadcast: bytes
    clip: float
    grid_exponent: int
    length: int
    transcript: bytes = b""


@dataclass(frozen=True)
class Earlier:
    """What a request tells of earlier releases: written in the same transaction.

    Attributes
    ----------
    heads : mapping
        Where other hospitals' ledgers stood, by identity.
    closing : sequence of (release, chain)
        Releases of which this hospital answers no further attempt.
    settling : sequence of (release, proof)
        Releases whose closing statements suffice for headline.
    """

    heads: Mapping[bytes, tuple[int, bytes]] = field(default_factory=dict)
    closing: Sequence[tuple[ReleaseId, Chain]] = ()
    settling: Sequence[tuple[ReleaseId, bytes]] = ()

    def write(self, ledger: Ledger) -> None:
        """Write it down; inside a transaction of the caller."""
        ledger.note_heads(self.heads)
        for release, chain in self.closing:
            ledger.record_closing(release, chain)
        for release, proof in self.settling:
            ledger.settle(release, "headline", proof)


@dataclass(frozen=True)
class AnsweredAttempt:
    """Which attempt of a release is answered: of a secure sum, by session and chain.

    Attributes
    ----------
    epoch : bytes
        The session whose masks are on it; empty where nothing is masked.
    chain : Chain
        All attempts up to this one; empty where nothing is masked.
    """

    epoch: bytes = b""
    chain: Chain = ()


ONLY = AnsweredAttempt()
NOTHING_EARLIER = Earlier()


def stored_release(
    ledger: Ledger,
    wanted: Wanted,
    draw: Callable[[Moment], Integers],
    payload: Callable[[Stored], tuple[P, bytes]],
    *,
    begin: Callable[[], None] = lambda: None,
    attempt: AnsweredAttempt = ONLY,
    earlier: Earlier = NOTHING_EARLIER,
) -> P:
    """Return the payload of a release: drawn, charged, stored and recorded, each once.

    Parameters
    ----------
    draw : callable
        Gives the noisy integers, shape (length,), for a moment; called only if none are stored.
    payload : callable
        Gives, of what is stored, what leaves and the bytes that the gate will see of it.
    begin : callable
        Called before `draw`, which reads patients.

    Raises
    ------
    LedgerError
        As `Ledger.check`, `Ledger.reserve` and `Ledger.record_attempt`; nothing is written then.
    """
    asked = {name: value for name, value in vars(wanted).items() if name != "length"}
    settled = [release for release, _ in earlier.settling]
    held = ledger.check(**asked, length=wanted.length, settling=settled)
    if held is None:
        begin()
        vector = draw(Moment(wanted.release, wanted.broadcast))
    else:
        vector = held.vector
    with ledger.one_commit():  # where another process has drawn meanwhile, its draw stays
        earlier.write(ledger)
        stored = held or ledger.reserve(**asked, vector=vector)
        left, content = payload(stored)
        ledger.record_attempt(
            wanted.release,
            epoch=attempt.epoch,
            chain=attempt.chain,
            payload_hash=hashlib.sha256(content).digest(),
        )
    return left
