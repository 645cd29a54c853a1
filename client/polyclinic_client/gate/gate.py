"""The gate: the one function through which anything leaves a hospital.

It knows the kinds of release, and lets one out only if it is exactly of that kind and, where
patients went into it, if the ledger holds its charge and the hash of this very payload. What is
let out is journalled first and leaves on a public tick. Everything else stops here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from pydantic import ValidationError

from polyclinic_client.gate.due import OVER, Due, Step, on_tick
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.records.entry import Head
from polyclinic_client.records.journal import Asked, Event, Journal, Left, Refused, Settled
from polyclinic_common.errors import Code, GateError, LedgerError, MessageError
from polyclinic_common.identity.statement import Statement, read_signed
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.releases.kinds import VOTE
from polyclinic_common.secure_sum.statements import Closing, KeyAnnouncement, KeyAnswer
from polyclinic_common.wire import (
    AnnouncedKeys,
    AnsweredKeys,
    CastVote,
    ClosedSum,
    MaskedVector,
    PrivateUpdate,
    Receipt,
    Refusal,
    Release,
    Request,
    encode_reply,
)

KEM_KEYS, KEM_CIPHERTEXT = (0, 1184), 1088  # bytes: ML-KEM-768 (FIPS 203, table 3), or none
FREE = {
    AnnouncedKeys: "keys and ledger heads; no patient goes into them",
    AnsweredKeys: "ciphertexts and ledger heads; no patient goes into them",
    ClosedSum: "says which messages came; no patient goes into it",
    Receipt: "says that the run is over; no patient goes into it",
    Refusal: "a function of messages and public mechanisms alone",
}
STATEMENTS: dict[type, type[Statement]] = {
    AnnouncedKeys: KeyAnnouncement,
    AnsweredKeys: KeyAnswer,
    ClosedSum: Closing,
}


class Clock(Protocol):
    """What time it is, and waiting."""

    def now(self) -> float:
        """Return Unix time in seconds."""
        ...

    def wait_until(self, moment: float) -> None:
        """Return at `moment`, or at once if it is past."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Return Unix time in seconds."""
        return time.time()

    def wait_until(self, moment: float) -> None:
        """Sleep until `moment`."""
        time.sleep(max(0.0, moment - self.now()))


class Begins(Protocol):
    """A message that is being answered."""

    def begin(self) -> None:
        """Count from the next tick what the answer is given."""
        ...


class Gate:
    """Lets releases out of one hospital.

    Parameters
    ----------
    identity : bytes
        This hospital's identity key.
    ledger : Ledger
        Holds every charge and the hash of every payload.
    journal : Journal
        Where everything is written down.
    ladder : Ladder
        The moments at which answers leave.
    clock : Clock
        The time.
    """

    def __init__(
        self, identity: bytes, ledger: Ledger, journal: Journal, ladder: Ladder, clock: Clock
    ):
        self._identity = identity
        self._ledger = ledger
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
            cost = self._check(release, asked)
        except (MessageError, ValidationError, GateError):
            what = type(release).__name__[:200]
            refused = Refused(reason=Code.GATE_REFUSED.value, what=what, run=asked.run)
            self._journal.write(asked, refused)
            raise _stopped("it is not a release that may leave") from None
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

    def _step(self, due: Due) -> Step:
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

    def _newly_settled(self, run: str) -> dict[ReleaseId, Settled]:
        """Return the releases that the ledger has settled at headline since the last answer."""
        found = {}
        for held in self._ledger.releases_of(run):
            name = held.reserved.release
            if held.settled == "headline" and name not in self._settled:
                found[name] = Settled(
                    run=run,
                    round_number=name.round_number,
                    sum=name.kind,
                    cost=held.reserved.headline,
                )
        return found

    def _check(self, release: Release, asked: Asked) -> Charge | None:
        """Return what a permitted release was charged; None if no patient goes into it."""
        kind = type(release)
        if kind not in (*FREE, MaskedVector, PrivateUpdate, CastVote):
            raise _stopped("its kind is unknown")
        kind(**vars(release))  # refuses any other, missing or further content
        match release:
            case MaskedVector() | PrivateUpdate():
                return self._check_vector(release, asked)
            case CastVote():
                return self._check_vote(release, asked)
            case AnnouncedKeys() | AnsweredKeys() | ClosedSum():
                self._check_statement(STATEMENTS[kind], release.statement, asked)
            case Receipt():
                if release.run_id != asked.run or asked.run not in self._ledger.state.closed_runs:
                    raise _stopped("that run is not over")
        return None

    def _check_vector(self, release: MaskedVector | PrivateUpdate, asked: Asked) -> Charge:
        """Return the charge that the ledger holds for exactly this payload."""
        epoch, attempt = b"", 0
        if isinstance(release, MaskedVector):
            epoch, attempt = release.session, release.attempt
            if release.closing:
                self._check_statement(Closing, release.closing, asked)
        answers = release.study_hash, release.run_id, release.round_number, attempt
        if answers != (asked.study_hash.hex(), asked.run, asked.round_number, asked.attempt):
            raise _stopped("it does not answer what was asked")
        if type(release.vector) is not np.ndarray:
            raise _stopped("its vector is not a plain one")
        name = ReleaseId(release.run_id, release.round_number, release.kind)
        payload = hashlib.sha256(release.vector.tobytes()).digest()
        held = self._ledger.stored(name)
        recorded = self._ledger.payload_is_recorded(name, epoch, attempt, payload)
        if held is None or not recorded or held.study_hash != asked.study_hash:
            raise _stopped("the ledger holds no charge for it")
        if np.array_equal(release.vector.view(np.int64), held.vector):
            raise _stopped("no mask is on it")
        return held.fallback

    def _check_vote(self, release: CastVote, asked: Asked) -> Charge:
        """Return the charge that the ledger holds for exactly this vote."""
        answers = release.study_hash, release.run_id, release.round_number
        if answers != (asked.study_hash.hex(), asked.run, asked.round_number):
            raise _stopped("it does not answer what was asked")
        name = ReleaseId(release.run_id, release.round_number, VOTE)
        payload = hashlib.sha256(bytes([release.in_favour])).digest()
        held = self._ledger.stored(name)
        recorded = self._ledger.payload_is_recorded(name, b"", 0, payload)
        if held is None or not recorded or held.study_hash != asked.study_hash:
            raise _stopped("the ledger holds no charge for it")
        return held.fallback

    def _check_statement(self, kind: type[Statement], statement: bytes, asked: Asked) -> None:
        """Stop what this hospital did not sign, or what its ledger does not say."""
        said = read_signed(kind, statement)
        if said.identity != self._identity:
            raise _stopped("another hospital signed it")
        if (said.study_hash, said.run) != (asked.study_hash, asked.run):
            raise _stopped("it does not answer what was asked")
        match said:
            case KeyAnnouncement():
                own = Head(said.counter, said.head)
                true = self._ledger.knows(own) and self._has_seen(said.heads)
                true = true and len(said.kem_key) in KEM_KEYS
                true = true and said.declared_reset == self._ledger.declared_reset
            case KeyAnswer():
                sizes = {len(ciphertext) for _, ciphertext in said.ciphertexts}
                true = self._has_seen(said.receipts) and sizes <= {KEM_CIPHERTEXT}
            case _:
                true = isinstance(said, Closing) and self._has_closed(said)
        if not true:
            raise _stopped("the ledger does not bear it out")

    def _has_seen(self, heads: Iterable[tuple[bytes, int, bytes]]) -> bool:
        seen = self._ledger.heads_seen
        return all(
            peer in seen and counter <= seen[peer].counter and len(digest) == len(seen[peer].digest)
            for peer, counter, digest in heads
        )

    def _has_closed(self, said: Closing) -> bool:
        name = ReleaseId(said.run, said.round_number, said.kind)
        return self._ledger.knows(Head(said.counter, said.head)) and any(
            held.closed_as_answered
            and (held.chain, held.reserved.broadcast) == (said.chain, said.broadcast)
            for held in self._ledger.releases_of(said.run)
            if (held.reserved.release, held.reserved.study_hash) == (name, said.study_hash)
        )

    def _entry(
        self, release: Release, records: RecordDict, asked: Asked, cost: Charge | None, tick: float
    ) -> Left:
        content, which = b"".join(_contents(records)), _sum_in(release)
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
            free_because=FREE.get(type(release), ""),
            tick=round(tick * 1000),
            ledger_row=0 if row is None else row.counter,
            ledger_digest=None if row is None else row.digest,
        )


def _sum_in(release: Release) -> str:
    """Return the kind of sum that a release carries; empty if no patient goes into it."""
    match release:
        case MaskedVector() | PrivateUpdate():
            return release.kind
        case CastVote():
            return VOTE
    return ""


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


def _stopped(why: str) -> GateError:
    return GateError(
        Code.GATE_REFUSED,
        f"Something was stopped at the gate: {why}.",
        "Nothing left; report it as a defect.",
    )
