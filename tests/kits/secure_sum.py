"""Small hospitals for the tests of the secure sum, and a test for uniform bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Attempt, Chain
from polyclinic_common.secure_sum.masks import Participant, View, Words, masked
from polyclinic_common.secure_sum.session import Agreed, KeyExchange
from polyclinic_common.secure_sum.statements import KeyAnnouncement

HOSPITALS = tuple(
    sorted((Identity.from_private(bytes([n]) * 32) for n in range(1, 9)), key=lambda i: i.public)
)
STUDY = bytes(range(32))
RUN = "run"
NOW, EXPIRES = 1_000_000, 1_000_600
RELEASE = ReleaseId(RUN, 3, "gradient")
NOBODY: Mapping[bytes, tuple[int, bytes]] = {}
FALSE_ALARM = 1e-9  # of one look at uniform bytes; a file takes fewer than 300
CELLS = 256


def roster_of(identities: Sequence[Identity]) -> Roster:
    return Roster.of({f"hospital {each.public.hex()[:6]}": each.public for each in identities})


def everyone(count: int) -> Attempt:
    return tuple(each.public for each in HOSPITALS[:count])


class Party:
    """One hospital in a key exchange."""

    def __init__(self, identity: Identity, roster: Roster, run: str = RUN, study: bytes = STUDY):
        self.identity = identity
        self.exchange = KeyExchange(identity, study, run, roster)
        self.announced = self.announce()

    def announce(self, expires: int = EXPIRES) -> bytes:
        return self.exchange.announcement(expires, (7, b"h" * 32), NOBODY)

    def said(self, announced: bytes = b"", **changes: Any) -> bytes:
        """Return this hospital's announcement with fields changed and a good signature."""
        statement = read_signed(KeyAnnouncement, announced or self.announced)
        return statement.model_copy(update=changes).signed(self.identity)

    def answer(self, announced: Sequence[bytes], now: int = NOW) -> bytes:
        return self.exchange.answer(announced, now, NOBODY)


def parties(count: int, **more: Any) -> list[Party]:
    identities = HOSPITALS[:count]
    return [Party(each, roster_of(identities), **more) for each in identities]


def agree(members: Sequence[Party]) -> dict[bytes, Agreed]:
    """Return what each hospital holds after an honest key exchange."""
    announced = [each.announced for each in members]
    answers = [each.answer(announced) for each in members]
    return {each.identity.public: each.exchange.agree(answers) for each in members}


def view_of(agreed: Agreed, chain: Chain, length: int, **changes: Any) -> View:
    """Return the view of one hospital."""
    view = View(
        study_hash=STUDY,
        release=RELEASE,
        length=length,
        clip=0.25,
        grid_exponent=-20,
        roster_hash=b"r" * 32,
        participants=tuple(agreed.participants[key] for key in chain[-1]),
        chain=chain,
        broadcast=b"b" * 32,
        history=b"h" * 32,
    )
    return replace(view, **changes)


def summed(
    vectors: Mapping[bytes, Words], views: Mapping[bytes, View], agreed: Mapping[bytes, Agreed]
) -> Words:
    """Return the sum modulo 2^64 of what the hospitals send."""
    total = np.zeros(len(next(iter(vectors.values()))), dtype=np.uint64)
    for own, vector in vectors.items():
        total += masked(vector, views[own], own, agreed[own].secrets)
    return total


def other_epoch(participants: tuple[Participant, ...]) -> tuple[Participant, ...]:
    return (replace(participants[0], epoch=b"o" * 16), *participants[1:])


def looks_uniform(data: NDArray[np.uint64] | NDArray[np.uint8]) -> bool:
    """Say whether the bytes look uniform, all together (chi-square, 255 degrees of freedom).

    Of uniform bytes it says no with probability `FALSE_ALARM`. With 4096 words or more, it says no
    with certainty where one of the eight bytes has at most two values: the statistic is then
    above 8 * 4096 * (256 * (1/16)^2 * 2 - 1) = 32768, the limit about 410.
    """
    counts = np.bincount(data.view(np.uint8), minlength=CELLS)
    expected = counts.sum() / CELLS
    statistic = float(((counts - expected) ** 2).sum() / expected)
    return statistic < float(chi2.isf(FALSE_ALARM, CELLS - 1))
