"""The chain of attempts of one sum: who was asked, and who is still in it.

Attempts of one (run, round, kind) form one chain of participant sets, each a part of the one
before it, each with at least m members. With 2m > |R| + c at most one chain of a round can be
completed; sets that are not nested (S without 1, then S without 2) would isolate every site.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise

from polyclinic_common.packing import Value, pack
from polyclinic_common.release_id import ReleaseId

Attempt = tuple[bytes, ...]
Chain = tuple[Attempt, ...]


def is_nested(chain: Chain) -> bool:
    """Say whether every attempt is sorted, without repetition, and a part of the one before."""
    return (
        bool(chain)
        and all(attempt == tuple(sorted(set(attempt))) for attempt in chain)
        and all(set(after) <= set(before) for before, after in pairwise(chain))
    )


def extends(answered: Chain, asked: Chain) -> bool:
    """Say whether `asked` goes on from `answered` without changing it.

    The same chain again is a repetition of the last attempt, with the same set.
    """
    return asked[: len(answered)] == answered


def counted(attempt: Attempt, verified: frozenset[bytes]) -> int:
    """Return how many members this hospital has verified itself: only they count towards m."""
    return sum(member in verified for member in attempt)


def statements_needed(chain: Chain, m: int, c: int) -> int:
    """Return how many closing statements settle at headline: more than |P1| - m + c."""
    return len(chain[0]) - m + c + 1


def transcript(before: bytes, release: ReleaseId, chain: Chain, broadcast: bytes) -> bytes:
    """Return the digest of a run's history after this sum, 32 bytes.

    `before` is the digest of all earlier sums (empty at the start), `broadcast` the hash of the
    model that was sent out.
    """
    name: Value = [release.run, release.round_number, release.kind]
    return hashlib.sha256(pack(["polyclinic transcript", before, name, chain, broadcast])).digest()
