"""The gate: the one function through which anything leaves a hospital.

It knows the kinds of release, and lets one out only if it is exactly of that kind and, where
patients went into it, if the ledger holds its charge and the hash of this very payload. What is
let out is journalled first and leaves on a public tick. Everything else stops here.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Protocol

from flwr.app import ConfigRecord, RecordDict
from pydantic import ValidationError

from polyclinic_client.gate.due import OVER, Due, Rung, on_tick
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.gate.permitted import Permitted, stopped
from polyclinic_client.gate.tick import Clock
from polyclinic_client.records.journal import Asked, Event, Journal, Left, Refused, SettledEvent
from polyclinic_common.errors import Code, GateError, LedgerError, MessageError
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.wire import (
    Refusal,
    Release,
    Request,
    encode_reply,
)


class Begins(Protocol):
    """A message that is being answered."""

    def begin(self) -> None:
        """Count from the next tick what the answer is given."""
        ...


class Gate:
    """Lets releases out of one hospital.

    Parameters
    ----------
    permitted : Permitted
        What may leave.
    journal : Journal
        Where everything is written down.
    ladder : Ladder
        The moments at which answers leave.
    clock : Clock
        The time.
    """

    def __init__(self, permitted: Permitted, journal: Journal, ladder: Ladder, clock: Clock):
        self._permitted = permitted
        self._ledger = permitted.ledger
        self._journal = journal
        self._ladder = ladder
        self._clock = clock
        self._settled: set[ReleaseId] = set()
        self.turn: Begins | None = None

    def begin(self) -> None:
        """Say that patients are read from here on for the message that is being answered."""
        if self.turn is not None:
            self.turn.begin()

    def wait_for_tick(self) -> None:
        """Return on the next public tick."""
        self._clock.wait_until(on_tick(self._clock.now()))

    def due(self, request: Request | None = None, *, first: bool = False) -> Due:
        """Return when the answer to a request leaves that arrives now.

        To be asked before any patient is read.

        Parameters
        ----------
        request : Request or None
            The request; None where it cannot be read.
        first : bool
            Whether the frozen table is read and encoded for it.

        Raises
        ------
        GateError
            G002 if answers of this study outlasted the whole ladder before.
        """
        if self._ladder.is_over(request, first=first):
            raise _late()
        return self._ladder.due(self._clock.now(), request, first=first)

    def let_out(self, release: Release, asked: Asked, due: Due) -> RecordDict:
        """Return the bytes of a permitted release, on the tick, after writing it down.

        Parameters
        ----------
        release : Release
            What would leave.
        asked : Asked
            The request that it answers.
        due : Due
            Of the request: when it leaves.

        Raises
        ------
        GateError
            If it is not a permitted release, or later than the whole ladder; it is journalled, and
            nothing leaves.
        LedgerError
            If the journal cannot be written; nothing leaves.
        """
        try:
            cost = self._permitted.charge(release, asked)
        except (MessageError, ValidationError, GateError):
            what = type(release).__name__[:200]
            refused = Refused(reason=Code.GATE_REFUSED.value, what=what, run=asked.run)
            self._journal.write(asked, refused)
            raise stopped("it is not a release that may leave") from None
        records = encode_reply(release)
        tick = self._step(due).moment
        left = self._entry(release, records, asked, cost, tick)
        settled = self._newly_settled(asked.run)
        events: list[Event] = [asked, *settled.values(), left]
        if isinstance(release, Refusal):
            reason = release.reason.value
            events.insert(-1, Refused(reason=reason, what=asked.what, run=asked.run))
        self._journal.write(*events)
        self._settled.update(settled)
        self._clock.wait_until(self._step(due).moment)  # a higher step if writing took too long
        return records

    def stay_silent(self, due: Due) -> None:
        """Wait as an answer would have: the next question does not tell when computing ended."""
        moment = due.end
        with suppress(LedgerError, GateError):
            moment = self._step(due).moment
        self._clock.wait_until(moment)

    def _step(self, due: Due) -> Rung:
        """Return the step on which an answer leaves that is ready now; a climb is kept for good.

        Raises
        ------
        GateError
            G002 if all steps are past.
        LedgerError
            If a climb cannot be written down.
        """
        while (step := due.at(self._clock.now())).number > self._ladder.step and due.climbs:
            self._ladder.climb(step.number)
            self._journal.write(due.climbed(step))
        if step.number == OVER:
            raise _late()
        return step

    def _newly_settled(self, run: str) -> dict[ReleaseId, SettledEvent]:
        """Return the releases that the ledger has settled at headline since the last answer."""
        found = {}
        for held in self._ledger.releases_of(run):
            name = held.reserved.release
            if held.settled == "headline" and name not in self._settled:
                found[name] = SettledEvent(
                    run=run,
                    round_number=name.round_number,
                    sum=name.kind,
                    cost=held.reserved.headline,
                )
        return found

    def _entry(
        self, release: Release, records: RecordDict, asked: Asked, cost: Charge | None, tick: float
    ) -> Left:
        content, which = b"".join(_contents(records)), getattr(release, "kind", "")
        row = self._ledger.charged_at(ReleaseId(asked.run, asked.round_number, which))
        return Left(
            kind=release.label,
            sum=which,
            size=len(content),
            sha256=hashlib.sha256(content).digest(),
            run=asked.run,
            round_number=asked.round_number,
            attempt=asked.attempt,
            cost=cost,
            free_because=release.free,
            tick=round(tick * 1000),
            ledger_row=0 if row is None else row.counter,
            ledger_digest=None if row is None else row.digest,
        )


def _contents(records: RecordDict) -> list[bytes]:
    """Return the bytes that leave: the body, and the vector if there is one."""
    return [
        value
        for record in records.values()
        if isinstance(record, ConfigRecord)
        for value in record.values()
        if isinstance(value, bytes)
    ]


def _late() -> GateError:
    return GateError(
        Code.GATE_LATE,
        "An answer was not ready within the longest time that the study's size allows.",
        "Nothing left, and answers of this study do not leave any more; use a faster machine, and "
        "ask the operator for a new version of the study.",
    )
