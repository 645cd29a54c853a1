"""What a hospital agreed to for one run of mode secure-sum."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.identity.roster import Roster
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.release_id import ReleaseId


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
    rounds_of : mapping
        In which rounds a kind may be asked for; what is not named, in all.
    """

    study_hash: bytes
    run: str
    roster: Roster
    verified: frozenset[bytes]
    m: int
    c: int
    rounds: int
    plans: Mapping[str, SumPlan]
    rounds_of: Mapping[str, Collection[int]] = field(default_factory=dict)

    def fits(self, release: ReleaseId) -> bool:
        """Say whether this kind may be asked for in this round."""
        return fits(release, self.rounds_of)

    def __post_init__(self) -> None:
        """Refuse terms under which more than one chain of a round could complete.

        Raises
        ------
        PrivacyError
            If 2m > |R| + c or c < m <= |R| does not hold.
        """
        size = len(self.roster)
        if not (self.c < self.m <= size and 2 * self.m > size + self.c):
            raise PrivacyError(
                Code.PRIVACY_PARAMETER,
                f"m = {self.m} and c = {self.c} do not fit a roster of {size} hospitals.",
                "c < m <= roster and 2m > roster + c must hold; correct the study.",
            )


def fits(release: ReleaseId, rounds_of: Mapping[str, Collection[int]]) -> bool:
    """Say whether a kind may be asked for in a round; one that is not named, in all."""
    rounds = rounds_of.get(release.kind)
    return rounds is None or release.round_number in rounds
