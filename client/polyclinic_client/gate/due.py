"""When an answer may leave: the moments of a public ladder, fixed when the request arrives.

Nothing here computes on patients: the node, which holds none, knows these moments too, and ends a
worker that outlasts them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

from polyclinic_client.records.journal import Climbed

LEAST_TICK_S = 0.25
FACTOR = 4
LONGEST_S = 900.0
OVER = 1 + math.floor(math.log(LONGEST_S / LEAST_TICK_S, FACTOR))
"""The step after the last: a study whose answers are not ready even then is not answered again."""
GRACE_S = 10.0  # for handing over what leaves at the last step


class Rung(NamedTuple):
    """A step of the ladder.

    Attributes
    ----------
    number : int
        0 is the lowest.
    seconds : float
        What an answer may take.
    moment : float
        When it leaves, Unix seconds.
    """

    number: int
    seconds: float
    moment: float


@dataclass(frozen=True)
class Due:
    """When the answer to one request leaves.

    Attributes
    ----------
    steps : tuple of Rung
        The present step of the study and those above it.
    climbs : bool
        Whether patients are read for it. If not, an answer that is late tells nothing about them,
        and leaves on the next tick.
    end : float
        Unix seconds; nothing leaves from there on.
    study_hash, run : bytes, str
        What is answered.
    """

    steps: tuple[Rung, ...]
    climbs: bool
    end: float
    study_hash: bytes = b""
    run: str = ""

    def at(self, now: float) -> Rung:
        """Return the step on which an answer leaves that is ready now; the end if all are past."""
        if not self.climbs:
            return self.steps[0]._replace(moment=max(self.steps[0].moment, on_tick(now)))
        ahead = (step for step in self.steps if step.moment >= now)
        return next(ahead, Rung(OVER, self.steps[-1].seconds, self.end))

    def climbed(self, step: Rung) -> Climbed:
        """Return what is written down where an answer was not ready before this step."""
        missed = [each.seconds for each in self.steps if each.number < step.number]
        return Climbed(
            study_hash=self.study_hash,
            run=self.run[:200],
            step=step.number,
            outlasted=round(1000 * max(missed, default=0.0)),
        )

    def to_bytes(self) -> bytes:
        """Return it as JSON, for the node."""
        plain = [self.steps, self.climbs, self.end, self.study_hash.hex(), self.run]
        return json.dumps(plain).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Due:
        """Read what `to_bytes` gave."""
        steps, climbs, end, study_hash, run = json.loads(data)
        return Due(
            tuple(Rung(*each) for each in steps), climbs, end, bytes.fromhex(study_hash), run
        )


def on_tick(moment: float) -> float:
    """Return the first public tick at or after a moment."""
    return math.ceil(moment / LEAST_TICK_S) * LEAST_TICK_S
