"""The ledger's file: opened, read along with other processes, written in single transactions.

What may be written is decided in :mod:`polyclinic_client.ledger.ledger`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from polyclinic_client.ledger.entries import (
    AnyEntry,
    HeadsSeen,
    Lost,
    Opened,
    SeenHead,
    read_entry,
    shares_of,
)
from polyclinic_client.ledger.heads import HeadMaker
from polyclinic_client.ledger.rules import check_caps
from polyclinic_client.ledger.state import LedgerState, ReleaseState
from polyclinic_client.ledger.witness import (
    read_invented,
    read_witness,
    write_claim,
    write_invented,
    write_witness,
)
from polyclinic_client.records.chained_log import ChainedLog, Clock, Row, unix_ms
from polyclinic_client.records.entry import LedgerHead
from polyclinic_client.records.sqlite_file import OpenFiles, coded, damaged
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.statements import MOST_ROWS

KIND = "ledger"
_VECTORS = (
    "CREATE TABLE vectors"
    " (sequence INTEGER PRIMARY KEY, run TEXT NOT NULL, content BLOB NOT NULL) STRICT"
)


class LedgerFile(OpenFiles):
    """One SQLite file, its state, and its standing with its witness and with other hospitals."""

    def __init__(self, log: ChainedLog, identity: Identity, witness: Path | None):
        self._log = log
        self._identity = identity
        self._witness = witness
        self._heads = HeadMaker(identity, log.extras["salt"])
        self._witnessed: LedgerHead | None = None  # what the witness says; None: it is not asked
        self._lock = threading.RLock()
        self._state = LedgerState()
        with self._reading():
            pass

    @classmethod
    def create(
        cls,
        path: Path,
        identity: Identity,
        *,
        delta: float,
        epsilon_cap: float,
        fallback_cap: float | None = None,
        witness: Path | None = None,
        known: Sequence[tuple[int, bytes]] = (),
        declared_reset: bool = False,
        durable: bool = True,
        clock: Clock = unix_ms,
    ) -> Self:
        """Make the ledger of a hospital.

        Parameters
        ----------
        delta : float
            Delta of the account, below 1 / (declared patients).
        epsilon_cap : float
            The most the account may count, unsettled releases at fallback.
        fallback_cap : float or None
            The most it may count if every release counted at fallback.
        witness : Path or None
            A file outside the ledger's volume; its path is kept in the ledger.
        known : sequence of (counter, salted head)
            Heads that other hospitals have seen of an earlier ledger of this one; one that it
            cannot have had is ignored.
        declared_reset : bool
            Whether the hospital knowingly begins anew although there was a ledger before. Peers
            see it: the counter goes on from the highest known, the history does not.
        durable : bool
            As `open_file`.
        clock : callable
            As `ChainedLog.create`.

        Raises
        ------
        LedgerError
            L007 if there is a ledger, or there was one and the reset is not declared.
        """
        check_caps(epsilon_cap, fallback_cap)
        spent_epsilon({}, delta)  # refuses a delta that is none
        heads = HeadMaker(identity, b"")
        counters = [head[0] for head in known if heads.believable(LedgerHead(*head), 0)]
        if witness is not None and witness.exists():
            counters.append(read_witness(witness, identity.public).counter if declared_reset else 0)
        if counters and not declared_reset:
            raise LedgerError(
                Code.LEDGER_EXISTS,
                "This hospital had a ledger before; a new one would forget what was spent.",
                "Put the ledger back and run: polyclinic client ledger recover",
            )
        first = Opened(
            delta=delta,
            epsilon_cap=epsilon_cap,
            fallback_cap=fallback_cap,
            declared_reset=declared_reset,
        )
        extras = {"secret": secrets.token_bytes(32), "salt": secrets.token_bytes(32)}
        if witness is not None:
            extras["witness"] = str(witness.absolute()).encode()
        log = ChainedLog.create(
            path,
            KIND,
            identity,
            extras=extras,
            schema=(_VECTORS,),
            first=first.body(),
            sequence=max(counters, default=0) + 1,
            durable=durable,
            clock=clock,
        )
        ledger = cls(log, identity, witness)
        ledger.write_witness()
        return ledger

    @classmethod
    def open(
        cls,
        path: Path,
        identity: Identity,
        witness: Path | None = None,
        *,
        read_only: bool = False,
        durable: bool = True,
        clock: Clock = unix_ms,
    ) -> Self:
        """Open the ledger and compare it with its witness.

        Parameters
        ----------
        witness : Path or None
            Where the witness lies now; None takes the path kept in the ledger, if any.
        read_only : bool
            Look only: every writing method fails with L003.
        durable : bool
            As `open_file`.
        clock : callable
            As `ChainedLog.create`.

        Raises
        ------
        LedgerError
            L001 if there is none, L006 if it is behind its witness or the witness is gone.
        """
        log = ChainedLog.open(
            path, KIND, identity, read_only=read_only, durable=durable, clock=clock
        )
        ledger = cls._of(log, identity, witness)
        try:
            if ledger.witness is not None:
                testimony = read_witness(ledger.witness, identity.public)
                ledger.check_not_behind([testimony.head])
                ledger._witnessed = testimony.head
                if not read_only and testimony.head != ledger.head():
                    ledger.write_witness()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open_unwitnessed(
        cls, path: Path, identity: Identity, witness: Path | None = None, *, read_only: bool = False
    ) -> Self:
        """Open without asking the witness, which stays as it is: for recovery only."""
        return cls._of(
            ChainedLog.open(path, KIND, identity, read_only=read_only), identity, witness
        )

    @classmethod
    def _of(cls, log: ChainedLog, identity: Identity, witness: Path | None) -> Self:
        """Return the ledger of an open log, which is closed if it cannot be read."""
        kept = log.extras.get("witness")
        try:
            return cls(log, identity, witness or (Path(kept.decode()) if kept else None))
        except BaseException:
            log.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._log.path

    @property
    def witness(self) -> Path | None:
        """The witness file, if there is one."""
        return self._witness

    @property
    def secret(self) -> bytes:
        """The site's 32 secret bytes, an ingredient of its noise."""
        return self._log.extras["secret"]

    @property
    def salt(self) -> bytes:
        """The 32 bytes that keep the head from telling what the rows say."""
        return self._log.extras["salt"]

    @property
    def delta(self) -> float:
        """Delta of the account."""
        return self._state.delta

    @property
    def declared_reset(self) -> bool:
        """Whether this hospital had a ledger before this one, and said so when it began it."""
        return self._state.opened is not None and self._state.opened.declared_reset

    def now(self) -> int:
        """Return the time in milliseconds, never before the last row's."""
        return self._log.now()

    def today(self) -> dt.date:
        """Return the day (UTC), never before the last row's."""
        return dt.datetime.fromtimestamp(self.now() / 1000, dt.UTC).date()

    # Where the ledger stands, for others and from others

    def head(self) -> LedgerHead:
        """Return the number of the last row and its salted hash: what announcements carry."""
        with self._reading():
            last = self._log.head
            return self._heads.head(last.sequence, last.hash)

    def charged_at(self, release: ReleaseId) -> LedgerHead | None:
        """Return the head with the row that charged a release: its vector is in the hash."""
        with self._reading() as state:
            held = state.releases.get(release)
            found = None if held is None else self._log.hash_at(held.sequence)
            if held is None or found is None:
                return None
            return self._heads.head(held.sequence, found)

    @property
    def heads_seen(self) -> Mapping[bytes, LedgerHead]:
        """The highest heads seen of others, by identity key."""
        with self._reading() as state:
            return {key: LedgerHead(seen.counter, seen.digest) for key, seen in state.heads.items()}

    def note_heads(self, heads: Mapping[bytes, tuple[int, bytes]]) -> None:
        """Keep heads of other hospitals that are higher than those seen before.

        One that no ledger can reach is not kept: later ones would seem lower for good.
        """
        with self._writing():
            seen = self._state.heads
            higher = tuple(
                SeenHead(identity=key, counter=counter, digest=digest)
                for key, (counter, digest) in sorted(heads.items())
                if counter <= MOST_ROWS and (key not in seen or counter > seen[key].counter)
            )
            if higher:
                self._append(HeadsSeen(heads=higher))

    def hear(self, told: Mapping[bytes, tuple[int, bytes]]) -> None:
        """Refuse to go on if peers have seen more of this ledger than is here.

        Who names a head that this ledger can never have had is noted for the hospital to see.

        Parameters
        ----------
        told : mapping of identity key to (counter, salted head)
            What verified peers signed that they saw of this ledger.

        Raises
        ------
        LedgerError
            As `check_not_behind`.
        """
        noted = read_invented(self.path)
        kept = {peer: head for peer, head in noted.items() if peer not in told}
        for peer, claim in told.items():
            if not self.believes(LedgerHead(*claim)):
                kept[peer] = LedgerHead(*claim)
        if kept != noted:
            write_invented(self.path, kept)
        self.check_not_behind(list(told.values()))

    def check_not_behind(self, claims: Sequence[tuple[int, bytes]]) -> None:
        """Refuse to go on if others have seen more of this ledger than is here.

        Parameters
        ----------
        claims : sequence of (counter, salted head)
            What others say they saw of this ledger; one that it cannot have had is ignored.

        Raises
        ------
        LedgerError
            L006 if a claim is ahead of this ledger, or not of its history.
        """
        with self._reading():
            for counter, digest in claims:
                claim = LedgerHead(counter, digest)
                if self.believes(claim) and not self.knows(claim):
                    write_claim(self.path, claim)
                    raise LedgerError(
                        Code.LEDGER_BEHIND,
                        f"This ledger is not the one that others have seen: row {counter} is not "
                        f"in it (it has {self._log.head.sequence}); nothing leaves.",
                        "If it was put back from a copy, run: polyclinic client ledger recover",
                    )

    def believes(self, claim: LedgerHead) -> bool:
        """Say whether this ledger can ever have had a head."""
        return self._heads.believable(claim, self._log.head.sequence)

    def knows(self, claim: LedgerHead) -> bool:
        """Say whether a head is in this ledger's history, or in a part declared lost."""
        return self.holds(claim) or self.forgives(claim)

    def holds(self, claim: LedgerHead) -> bool:
        """Say whether a head is in this ledger's history."""
        found = self._log.hash_at(claim.counter)
        return found is not None and self._heads.is_of(claim, found)

    def forgives(self, claim: LedgerHead) -> bool:
        """Say whether a head is in a part declared lost: whatever that held is charged."""
        return any(after < claim.counter < until for after, until in self._state.forgiven)

    # Looking at it, and mending it

    def verify(self) -> int:
        """Check every row, signature and stored vector; return the number of rows."""
        with self._reading() as state:
            rows = self._log.verify()
            for held in state.releases.values():
                self._content(held)
            return rows

    def export_rows(self, after: int = 0) -> list[Row]:
        """Return the signed rows with a number above `after`, for others to keep."""
        return self._log.rows(after)

    def write_witness(self) -> None:
        """Rewrite the witness, if there is one."""
        if self._witness is not None:
            head = self.head()
            write_witness(self._witness, self._identity, head, shares_of(self._state.most()))
            self._witnessed = head

    def reimport(self, rows: Sequence[Row]) -> None:
        """Append rows of this ledger that were lost, as they were.

        Their vectors are gone: what they reserved is charged and cannot be sent any more.
        """
        with self._writing():
            for row in rows:
                self._log.append_again(row)
                self._state.apply(read_entry(row.body), row.sequence)

    def charge_lost(self, counter: int, since: int, charges: Mapping[Charge, int]) -> None:
        """Charge rows that are lost for good; every approval ends, open releases are dropped.

        Rows go on above every number that was seen. With numbers used twice, a lost row of the
        new branch could not be told from one of the old, and a second copy put back would pass.

        Parameters
        ----------
        counter : int
            The highest row that anybody has seen; rows go on after it.
        since : int
            The last row that is surely shared with those who saw it.
        charges : mapping of Charge to int
            What the lost rows can have held.
        """
        with self._writing():
            number = max(counter, self._log.head.sequence) + 1
            self._append(Lost(since=since, charges=shares_of(charges)), number)

    @property
    def state(self) -> LedgerState:
        """The account as of the last call; to be looked at only."""
        return self._state

    @contextmanager
    def one_commit(self) -> Iterator[None]:
        """Make the calls inside one transaction; an error undoes all: do not catch it inside."""
        with self._writing():
            yield

    @contextmanager
    def _writing(self) -> Iterator[dt.date]:
        with self._lock:
            if self._log.in_transaction:
                yield self.today()
                return
            clean: Row | None = None
            try:
                with self._log.transaction() as rows:
                    self._absorb(rows)
                    clean = self._log.head
                    self._ask_witness()
                    yield self.today()
            except BaseException:
                if self._log.head is not clean:
                    self._forget()
                raise
            if self._witnessed not in (None, self.head()):
                self.write_witness()  # also where an earlier call wrote a row and failed here

    def _ask_witness(self) -> None:
        """Refuse to write if the witness knows more: a copy of this ledger went on elsewhere.

        It may have been copied while it was open, or put back with the memory of its process.
        """
        if self._witness is None or self._witnessed is None:
            return
        with coded(self._witness):
            self._witness.stat()  # gone since it was opened: a fault of its disk
        said = read_witness(self._witness, self._identity.public).head
        self.check_not_behind([said])
        self._witnessed = said

    @contextmanager
    def _reading(self) -> Iterator[LedgerState]:
        with self._lock, self._log.reading() as rows:
            try:
                self._absorb(rows)
            except BaseException:
                self._forget()
                raise
            yield self._state

    def _absorb(self, rows: list[Row]) -> None:
        for row in rows:
            self._state.apply(read_entry(row.body), row.sequence)

    def _forget(self) -> None:
        """Drop what was undone: the next call reads everything again."""
        self._log.rewind()
        self._state = LedgerState()

    def _append(self, entry: AnyEntry, sequence: int | None = None, time: int | None = None) -> Row:
        row = self._log.append(entry.body(), sequence, time)
        self._state.apply(entry, row.sequence)
        return row

    def _has_content(self, held: ReleaseState) -> bool:
        """Say whether the vector is there: not after it came back as a row, or was erased."""
        found = self._log.connection.execute(
            "SELECT 1 FROM vectors WHERE sequence = ?", (held.sequence,)
        ).fetchone()
        return found is not None

    def _content(self, held: ReleaseState) -> bytes | None:
        found = self._log.connection.execute(
            "SELECT content FROM vectors WHERE sequence = ?", (held.sequence,)
        ).fetchone()
        if found is None:
            return None
        content = bytes(found[0])
        if hashlib.sha256(content).digest() != held.reserved.vector:
            raise damaged(self.path, f"the vector of row {held.sequence} is not what was stored")
        return content
