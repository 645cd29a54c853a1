"""The journal: who asked what, what left this hospital, and what was refused; for people to read.

It says nothing about a patient: sizes, hashes, public mechanisms and stable codes only, and how
often the rules of a mapping applied to a table. It stays here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from polyclinic_client.records.chained_log import ChainedLog, Clock, Row, unix_ms
from polyclinic_client.records.entry import Digest, Entry, LedgerHead, unreadable
from polyclinic_client.records.sqlite_file import OpenFiles
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.privacy.charges import Charge

KIND = "journal"
Text = Annotated[str, Field(max_length=200)]


class Began(Entry):
    """The journal was made."""

    entry: Literal["began"] = "began"


class Asked(Entry):
    """Somebody asked something of this hospital.

    Attributes
    ----------
    who : str
        The server that asked.
    what : str
        Kind of request.
    """

    entry: Literal["asked"] = "asked"
    who: Text
    what: Text
    study_hash: bytes
    run: Text
    round_number: int = 0
    attempt: int = 0


class Left(Entry):
    """A release left through the gate.

    Attributes
    ----------
    kind : str
        Kind of release.
    sum : str
        Kind of the sum in it: what leaves again for the same (run, round, sum) is charged once.
    size : int
        Bytes.
    sha256 : bytes
        Hash of the bytes.
    cost : Charge or None
        What it was charged at, at most; None if it costs nothing.
    free_because : str
        Why it costs nothing.
    tick : int
        When it left: the public tick, milliseconds since 1970.
    ledger_row, ledger_digest : int, bytes or None
        The ledger's row that charged it, and the salted hash of that row as a ledger head has it:
        a second draw has another. Zero and None if it costs nothing, and in older journals.
    """

    entry: Literal["left"] = "left"
    kind: Text
    sum: Text = ""
    size: Annotated[int, Field(ge=0)]
    sha256: Digest
    run: Text
    round_number: int = 0
    attempt: int = 0
    cost: Charge | None = None
    free_because: Text = ""
    tick: int
    ledger_row: Annotated[int, Field(ge=0)] = 0
    ledger_digest: Digest | None = None

    @property
    def row(self) -> LedgerHead | None:
        """The ledger's row that charged it, None if it is not said."""
        return (
            None if self.ledger_digest is None else LedgerHead(self.ledger_row, self.ledger_digest)
        )


class SettledEvent(Entry):
    """Closing statements prove that a release costs its headline; a restarted node says it again.

    Attributes
    ----------
    cost : Charge
        What the release costs, instead of what was written down when it left.
    """

    entry: Literal["settled"] = "settled"
    run: Text
    round_number: int
    sum: Text
    cost: Charge


class Refused(Entry):
    """A request was refused, or something was stopped at the gate.

    Attributes
    ----------
    reason : str
        Stable code.
    what : str
        What was refused: a kind of request or release.
    """

    entry: Literal["refused"] = "refused"
    reason: Text
    what: Text
    run: Text = ""
    round_number: int = 0
    attempt: int = 0


class Failed(Entry):
    """Something failed inside; nothing was sent, or a refusal that tells less.

    A stable code only, for a text could tell more.
    """

    entry: Literal["failed"] = "failed"
    code: Text
    run: Text = ""
    round_number: int = 0
    attempt: int = 0


class Bundle(Entry):
    """The server named an App Bundle with a run; it was not fetched.

    Attributes
    ----------
    sha256 : bytes
        Hash of the bundle.
    flower_run : int
        Flower's number of the run.
    """

    entry: Literal["bundle"] = "bundle"
    sha256: Digest
    flower_run: Annotated[int, Field(ge=0)]


class Climbed(Entry):
    """An answer was not ready when it was due: answers of its study take longer for good.

    Whoever sent the request has seen that computing took longer, a comparison with the number of
    patients.

    Attributes
    ----------
    step : int
        The step of the ladder that the study is on from here.
    outlasted : int
        How long computing took at least, milliseconds.
    """

    entry: Literal["climbed"] = "climbed"
    study_hash: bytes
    run: Text
    step: Annotated[int, Field(ge=1)]
    outlasted: Annotated[int, Field(ge=0)]


class PeerReset(Entry):
    """Another hospital declared in a run that its ledger was begun anew.

    Attributes
    ----------
    identity : bytes
        Its identity key.
    """

    entry: Literal["peer-reset"] = "peer-reset"
    identity: Digest
    run: Text = ""


class Rule(Entry):
    """A rule of a mapping, and how often it applied: a `SettledRule` of ``data/settled.py``.

    Attributes
    ----------
    column, rule, how : str
        The contract's column, the line's name, and what it says where no cell stands in it.
    count : int
        Cells or rows.
    """

    column: Text
    rule: Text
    how: Text = ""
    count: Annotated[int, Field(ge=0)]


class TableEvent(Entry):
    """A table was added for a study, or approved with it: what its mapping settled.

    Attributes
    ----------
    what : str
        What was done.
    settled : tuple of Rule
        Every rule, and how often it applied; no cell stands in it.
    """

    entry: Literal["table"] = "table"
    what: Literal["added", "approved"]
    study_hash: bytes
    settled: tuple[Rule, ...] = ()


class Decided(Entry):
    """People here accepted or rejected a released model.

    Attributes
    ----------
    digest : bytes
        Names the model's file, whoever signs it.
    code : str
        Why it was rejected, a word of the public list.
    """

    entry: Literal["decided"] = "decided"
    decision: Literal["accepted", "rejected"]
    digest: Digest
    study_hash: bytes
    run: Text
    code: Text = ""


Event = (
    Asked
    | Left
    | SettledEvent
    | Refused
    | Failed
    | Bundle
    | Climbed
    | PeerReset
    | TableEvent
    | Decided
)
_ADAPTER: TypeAdapter[Began | Event] = TypeAdapter(
    Annotated[Began | Event, Field(discriminator="entry")]
)


@dataclass(frozen=True)
class Noted:
    """An event with its number and time (milliseconds since 1970)."""

    sequence: int
    time: int
    event: Began | Event

    @property
    def when(self) -> dt.datetime:
        """The time, UTC."""
        return dt.datetime.fromtimestamp(self.time / 1000, dt.UTC)


class Journal(OpenFiles):
    """An append-only record of what was asked and what left; made by `create` or `open`."""

    def __init__(self, log: ChainedLog):
        self._log = log
        log.skip_to_end()

    @staticmethod
    def create(
        path: Path, identity: Identity, *, durable: bool = True, clock: Clock = unix_ms
    ) -> Journal:
        """Make a journal; `durable` and `clock` as `ChainedLog.create`.

        Raises
        ------
        LedgerError
            L007 if there is one, L003 if the disk refuses.
        """
        first = Began().body()
        log = ChainedLog.create(path, KIND, identity, first=first, durable=durable, clock=clock)
        return Journal(log)

    @staticmethod
    def open(
        path: Path,
        identity: Identity,
        *,
        read_only: bool = False,
        durable: bool = True,
        clock: Clock = unix_ms,
    ) -> Journal:
        """Open a journal; `durable` and `clock` as `ChainedLog.create`.

        Raises
        ------
        LedgerError
            L001 if there is none, L002 if it is damaged or another hospital's.
        """
        log = ChainedLog.open(
            path, KIND, identity, read_only=read_only, durable=durable, clock=clock
        )
        try:
            return Journal(log)
        except BaseException:
            log.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def write(self, *events: Event) -> None:
        """Write events down, in one transaction; they are on the disk when this returns."""
        mark = None
        try:
            with self._log.transaction():
                mark = self._log.head
                for event in events:
                    self._log.append(event.body())
        except BaseException:
            if self._log.head is not mark:
                self._log.rewind()
            raise

    def events(self, after: int = 0) -> Iterator[Noted]:
        """Yield what was noted, in order, after the row of that number."""
        for row in self._log.rows(after):
            yield _noted(row)

    def climbs(self) -> dict[bytes, Climbed]:
        """Return the highest climb of every study that has climbed, by hash."""
        found: dict[bytes, Climbed] = {}
        for noted in self.events():
            event = noted.event
            if isinstance(event, Climbed) and (
                event.study_hash not in found or found[event.study_hash].step < event.step
            ):
                found[event.study_hash] = event
        return found

    def peer_resets(self) -> frozenset[bytes]:
        """Return the hospitals that have declared, in any run, that their ledger was begun anew."""
        found = (noted.event for noted in self.events())
        return frozenset(each.identity for each in found if isinstance(each, PeerReset))

    def verify(self) -> int:
        """Check every row and signature; return the number of rows."""
        count = self._log.verify()
        for row in self._log.rows():
            _noted(row)
        return count


def _noted(row: Row) -> Noted:
    try:
        return Noted(row.sequence, row.time, _ADAPTER.validate_json(row.body))
    except ValidationError:
        raise unreadable(f"row {row.sequence}") from None
