"""What a hospital agreed to for one run of mode secure-sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.secure_sum.identity import Roster


@dataclass(frozen=True)
class Terms:
    """What this hospital approved: fixed before the run.

    Attributes
    ----------
    study_hash : bytes
        The study.
    run : str
        The run it joined.
    roster : Roster
        All hospitals; their number is |R|.
    verified : frozenset of bytes
        Identity keys that this hospital checked outside the system; only they are counted.
    m, c : int
        Fewest participants of an attempt, colluding participants tolerated.
    rounds : int
        Rounds of the run.
    plans : mapping
        Noise and grid of every kind of sum, in the order of a round.
    """

    study_hash: bytes
    run: str
    roster: Roster
    verified: frozenset[bytes]
    m: int
    c: int
    rounds: int
    plans: Mapping[str, SumPlan]
