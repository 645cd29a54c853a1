"""The public ladder of a study: how long its answers may take, climbed once for its whole life.

An answer leaves at the end of the time that its work is given, counted from the arrival of the
request and rounded up to the public tick. If it is not ready then, that time is four times as long,
and so on. The step is kept: chosen afresh for every answer, each would be compared with the size
of the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from polyclinic_client.gate.due import (
    FACTOR,
    GRACE_S,
    LEAST_TICK_S,
    LONGEST_S,
    OVER,
    Due,
    Rung,
    on_tick,
)
from polyclinic_client.gate.pace import NO_PATIENTS, Pace
from polyclinic_common.wire import Request


@dataclass(frozen=True)
class Ladder:
    """The ladder of one study at one hospital.

    Attributes
    ----------
    study_hash : bytes
        The study; empty where requests are refused.
    pace : Pace
        What its answers may take on the lowest step.
    reached : dict
        The step that every study has reached, by hash: shared by all runs, never lowered.
    """

    study_hash: bytes = b""
    pace: Pace = NO_PATIENTS
    reached: dict[bytes, int] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The step that the study has reached."""
        return self.reached.get(self.study_hash, 0)

    def climb(self, step: int) -> None:
        """Go up to a step, for good."""
        self.reached[self.study_hash] = max(step, self.step)

    def is_over(self, request: Request | None, *, first: bool) -> bool:
        """Say whether a request asks for patients where nothing of them leaves any more."""
        return self.step >= OVER and self.pace.seconds(request, first=first) is not None

    def due(self, arrived: float, request: Request | None, *, first: bool) -> Due:
        """Return when the answer to a request leaves that came at `arrived` (Unix seconds).

        It is a function of the message, the step and public numbers. At least the whole time lies
        between: who sends a request just before a tick does not learn whether the answer was ready.
        """
        run = "" if request is None else request.run_id
        seconds = self.pace.seconds(request, first=first)
        if seconds is None:
            only = Rung(0, LEAST_TICK_S, on_tick(arrived + LEAST_TICK_S))
            return Due((only,), False, only.moment + LONGEST_S, self.study_hash, run)
        steps = tuple(
            Rung(number, length, on_tick(arrived + length))
            for number, length in enumerate(_lengths(seconds))
        )
        steps = steps[min(self.step, len(steps) - 1) :]
        return Due(steps, True, steps[-1].moment + GRACE_S, self.study_hash, run)


def _lengths(seconds: float) -> list[float]:
    """Return what an answer may take on every step; the lowest is there however long it is."""
    higher = [seconds * FACTOR**number for number in range(1, OVER)]
    return [seconds, *(each for each in higher if each <= LONGEST_S)]
