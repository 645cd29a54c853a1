"""An append-only, hash-chained, signed log in one SQLite file: what ledger and journal stand on.

A row is (sequence, time, body, previous hash, hash, signature) with
``hash = SHA-256(pack(["polyclinic row", kind, sequence, time, body, previous hash]))`` and the
hospital's signature over ``pack(["polyclinic row signature", hash])``. The first row's previous
hash is that of the table `meta`, which the hospital signs as well: a row belongs to one log.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from polyclinic_client.records.sqlite_file import (
    coded,
    damaged,
    make_file,
    open_file,
    require_local,
)
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity, verify
from polyclinic_common.packing import pack

SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
    "CREATE TABLE rows (sequence INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,"
    " body BLOB NOT NULL, previous BLOB NOT NULL, hash BLOB NOT NULL,"
    " signature BLOB NOT NULL) STRICT",
    "CREATE TRIGGER rows_stay BEFORE UPDATE ON rows"
    " BEGIN SELECT RAISE(ABORT, 'rows are never changed'); END",
    "CREATE TRIGGER rows_remain BEFORE DELETE ON rows"
    " BEGIN SELECT RAISE(ABORT, 'rows are never removed'); END",
)
_COLUMNS = "sequence, time, body, previous, hash, signature"
_FROM = f"SELECT {_COLUMNS} FROM rows WHERE sequence >= ? ORDER BY sequence"  # noqa: S608
_LAST = f"SELECT {_COLUMNS} FROM rows ORDER BY sequence DESC LIMIT 1"  # noqa: S608
_INSERT = f"INSERT INTO rows ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
_META = "INSERT INTO meta VALUES (?, ?)"
TIMEOUT = 30.0
Clock = Callable[[], int]


def unix_ms() -> int:
    """Return the time in milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000


class Row(NamedTuple):
    """One signed row; `time` in milliseconds since 1970 (UTC)."""

    sequence: int
    time: int
    body: bytes
    previous: bytes
    hash: bytes
    signature: bytes

    def text(self) -> str:
        """Return the row as JSON, to be kept elsewhere."""
        parts = {name: getattr(self, name).hex() for name in ("previous", "hash", "signature")}
        plain = {"sequence": self.sequence, "time": self.time, "body": self.body.decode()}
        return json.dumps(plain | parts)

    @staticmethod
    def read(text: str) -> Row:
        """Return the row that `text` gave; what it says is not checked here.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is none.
        """
        plain = json.loads(text)
        return Row(
            int(str(plain["sequence"])),
            int(str(plain["time"])),
            str(plain["body"]).encode(),
            *(bytes.fromhex(str(plain[name])) for name in ("previous", "hash", "signature")),
        )

    def link(self, kind: str) -> bytes:
        """Return the hash that this row's content must have."""
        content = pack(["polyclinic row", kind, self.sequence, self.time, self.body, self.previous])
        return hashlib.sha256(content).digest()

    def is_signed_by(self, public: bytes) -> bool:
        """Say whether the signature is that of the hospital with this key."""
        return verify(public, _to_sign(self.hash), self.signature)

    def follows(self, before: Row, kind: str) -> bool:
        """Say whether this row is whole and the next after `before`."""
        return (
            self.sequence > before.sequence
            and self.time >= before.time
            and self.previous == before.hash
            and self.hash == self.link(kind)
        )


class ChainedLog:
    """A log that several processes may write; made by `create` or `open`.

    The log remembers up to which row its owner has read. Every writing transaction first returns
    the rows that other processes have appended since. An error inside a transaction undoes it.

    Attributes
    ----------
    path : Path
        The file.
    extras : mapping of str to bytes
        What was put into the signed table `meta` when the log was made.
    connection : sqlite3.Connection
        For further tables of the owner, to be written inside `transaction` only.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        identity: Identity,
        connection: sqlite3.Connection,
        clock: Clock = unix_ms,
    ):
        self.path = path
        self.connection = connection
        self._kind = kind
        self._identity = identity
        self._clock = clock
        self._lock = threading.RLock()
        with coded(path):
            self.extras = self._read_meta()
        self._genesis = Row(0, 0, b"", b"", self._meta_hash(self.extras), b"")
        self._last = self._genesis
        self._inode = path.stat().st_ino

    @staticmethod
    def create(
        path: Path,
        kind: str,
        identity: Identity,
        *,
        extras: Mapping[str, bytes] | None = None,
        schema: Sequence[str] = (),
        first: bytes,
        sequence: int = 1,
        timeout: float = TIMEOUT,
        durable: bool = True,
        clock: Clock = unix_ms,
    ) -> ChainedLog:
        """Make a log with a first row, in one transaction.

        Parameters
        ----------
        kind : str
            What the log is; part of every hash.
        extras : mapping of str to bytes
            Further signed content of the table `meta`.
        schema : sequence of str
            Further tables of the owner.
        first : bytes
            Body of the first row.
        sequence : int
            Number of the first row.
        durable : bool
            As `open_file`.
        clock : callable
            Tells the time in milliseconds since 1970 (UTC).

        Raises
        ------
        LedgerError
            L007 if there is a log already, L003 if the disk refuses.
        """
        require_local(path)
        make_file(path)
        connection = open_file(path, timeout=timeout, durable=durable)
        try:
            with coded(path):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                _refuse_second(connection, path)
                for statement in (*SCHEMA, *schema):
                    connection.execute(statement)
                _write_meta(connection, kind, identity, dict(extras or {}))
                log = ChainedLog(path, kind, identity, connection, clock)
                log.append(first, sequence)
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        log.rewind()
        return log

    @staticmethod
    def open(
        path: Path,
        kind: str,
        identity: Identity,
        *,
        read_only: bool = False,
        timeout: float = TIMEOUT,
        durable: bool = True,
        clock: Clock = unix_ms,
    ) -> ChainedLog:
        """Open an existing log, whose rows are checked as they are read.

        `durable` and `clock` are as in `create`.

        Raises
        ------
        LedgerError
            L001 if there is none, L002 if it is damaged or another hospital's, L003 if the disk
            refuses.
        """
        connection = open_file(path, timeout=timeout, read_only=read_only, durable=durable)
        try:
            log = ChainedLog(path, kind, identity, connection, clock)
            with coded(path):
                log._check_not_truncated()
        except BaseException:
            connection.close()
            raise
        return log

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @property
    def head(self) -> Row:
        """The last row read or written; sequence 0 before the first."""
        return self._last

    @property
    def in_transaction(self) -> bool:
        """Whether `transaction` is open."""
        return self.connection.in_transaction

    def now(self) -> int:
        """Return the time in milliseconds, never before the last row's."""
        return max(self._clock(), self._last.time)

    @contextmanager
    def transaction(self) -> Iterator[list[Row]]:
        """Hold the log for writing; gives the rows that others have appended meanwhile.

        After an error `rewind` and read again if anything was appended inside.
        """
        with self._lock, coded(self.path):
            self._check_same_file()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._read_new()
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[list[Row]]:
        """Hold the log against this process's other threads; gives rows not read yet."""
        with self._lock, coded(self.path):
            self._check_same_file()
            yield self._read_new()

    def append(self, body: bytes, sequence: int | None = None, time: int | None = None) -> Row:
        """Sign and append a row; inside `transaction` only.

        `time` stands for the clock's, in milliseconds; no row is earlier than the one before.
        """
        number = self._last.sequence + 1 if sequence is None else sequence
        when = self.now() if time is None else max(time, self._last.time)
        draft = Row(number, when, body, self._last.hash, b"", b"")
        digest = draft.link(self._kind)
        return self._insert(draft._replace(hash=digest, signature=self._sign(digest)))

    def append_again(self, row: Row) -> Row:
        """Append a row of this very log that was lost; inside `transaction` only."""
        if not row.follows(self._last, self._kind) or not row.is_signed_by(self._identity.public):
            raise damaged(self.path, f"the row {row.sequence} offered does not continue it")
        return self._insert(row)

    def rewind(self) -> None:
        """Forget what was read: the next rows given are all."""
        self._last = self._genesis

    def skip_to_end(self) -> None:
        """Read the last row only: for an owner that needs no earlier ones."""
        with self._lock, coded(self.path):
            found = self.connection.execute(_LAST).fetchone()
            if found is not None:
                self._last = self._checked_last(_row(found, self.path))

    def hash_at(self, sequence: int) -> bytes | None:
        """Return the hash of a row, or None if there is none with that number."""
        with coded(self.path):
            found = self.connection.execute(
                "SELECT hash FROM rows WHERE sequence = ?", (sequence,)
            ).fetchone()
        return None if found is None else bytes(found[0])

    def rows(self, after: int = 0) -> list[Row]:
        """Return all rows with a number above `after`; each is whole, links are not checked."""
        with self._lock, coded(self.path):
            read = self.connection.execute(_FROM, (after + 1,))
            rows = [_row(found, self.path) for found in read]
        for row in rows:
            self._check_whole(row)
        return rows

    def verify(self) -> int:
        """Check every row, every signature and the database itself; return the number of rows.

        Raises
        ------
        LedgerError
            L002 naming the first row that is not what this hospital wrote.
        """
        with self._lock, coded(self.path):
            (sound,) = self.connection.execute("PRAGMA integrity_check(1)").fetchone()
            if sound != "ok":
                raise damaged(self.path, "the database's own check fails")
            self._check_not_truncated()
            before, count = self._genesis, 0
            for found in self.connection.execute(_FROM, (0,)):
                row = _row(found, self.path)
                self._check_link(row, before)
                self._check_signature(row)
                before, count = row, count + 1
        return count

    def checkpoint(self) -> None:
        """Move everything into the database and empty the write-ahead file, if nobody reads."""
        with self._lock, coded(self.path):
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _insert(self, row: Row) -> Row:
        self.connection.execute(_INSERT, row)
        self._last = row
        return row

    def _sign(self, digest: bytes) -> bytes:
        return self._identity.sign(_to_sign(digest))

    def _read_new(self) -> list[Row]:
        read = self.connection.execute(_FROM, (self._last.sequence,))
        found = [_row(each, self.path) for each in read]
        if self._last.sequence:
            if not found or found[0] != self._last:
                raise damaged(self.path, f"the row {self._last.sequence} is no longer there")
            del found[0]
        before = self._last
        for row in found:
            self._check_link(row, before)
            before = row
        if found:
            self._last = self._checked_last(before)
        return found

    def _checked_last(self, row: Row) -> Row:
        self._check_whole(row)
        self._check_signature(row)
        return row

    def _check_whole(self, row: Row) -> None:
        if row.hash != row.link(self._kind):
            raise damaged(self.path, f"row {row.sequence} is not what was written")

    def _check_link(self, row: Row, before: Row) -> None:
        if not row.follows(before, self._kind):
            raise damaged(self.path, f"row {row.sequence} does not follow from the one before")

    def _check_signature(self, row: Row) -> None:
        if not row.is_signed_by(self._identity.public):
            raise damaged(self.path, f"row {row.sequence} is not signed by this hospital")

    def _check_same_file(self) -> None:
        if self.path.stat().st_ino != self._inode:
            raise damaged(self.path, "the file was replaced while it was in use")

    def _check_not_truncated(self) -> None:
        """Compare the last row with SQLite's own note of the highest number ever given."""
        (highest,) = self.connection.execute("SELECT max(sequence) FROM rows").fetchone()
        noted = self.connection.execute("SELECT seq FROM sqlite_sequence").fetchone()
        if highest is None or noted is None or highest != noted[0]:
            raise damaged(self.path, "its last rows are missing")

    def _read_meta(self) -> dict[str, bytes]:
        tables = {name for (name,) in self.connection.execute("SELECT name FROM sqlite_master")}
        if not {"meta", "rows", "rows_stay", "rows_remain", "sqlite_sequence"} <= tables:
            raise damaged(self.path, "its tables are missing")
        (mode,) = self.connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            raise damaged(self.path, "its journal mode was changed")
        meta = dict(self.connection.execute("SELECT name, value FROM meta"))
        if not all(isinstance(value, bytes) for value in meta.values()):
            raise damaged(self.path, "the table meta has values of the wrong type")
        seal = meta.pop("seal", b"")
        if meta.pop("kind", b"") != self._kind.encode():
            raise damaged(self.path, f"it is not a {self._kind}")
        if meta.pop("public", b"") != self._identity.public:
            raise damaged(self.path, "it belongs to another hospital's key")
        if not verify(self._identity.public, _to_seal(self._meta_hash(meta)), seal):
            raise damaged(self.path, "the table meta is not what was written")
        return meta

    def _meta_hash(self, extras: Mapping[str, bytes]) -> bytes:
        return _meta_digest(self._kind, self._identity.public, extras)


def _meta_digest(kind: str, public: bytes, extras: Mapping[str, bytes]) -> bytes:
    return hashlib.sha256(pack(["polyclinic log", kind, public, sorted(extras.items())])).digest()


def _write_meta(
    connection: sqlite3.Connection, kind: str, identity: Identity, extras: dict[str, bytes]
) -> None:
    digest = _meta_digest(kind, identity.public, extras)
    fixed = {
        "kind": kind.encode(),
        "public": identity.public,
        "seal": identity.sign(_to_seal(digest)),
    }
    connection.executemany(_META, [*extras.items(), *fixed.items()])


def _refuse_second(connection: sqlite3.Connection, path: Path) -> None:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        raise LedgerError(
            Code.LEDGER_EXISTS,
            f"There is {path} already, and it is left as it is.",
            "Use it; a new one would forget what was spent.",
        )


def _row(found: tuple[object, ...], path: Path) -> Row:
    match found:
        case (int() as number, int() as when, bytes(), bytes(), bytes(), bytes()):
            return Row(number, when, *found[2:])  # type: ignore[arg-type]
    raise damaged(path, "a row has values of the wrong type")


def _to_seal(digest: bytes) -> bytes:
    return pack(["polyclinic log seal", digest])


def _to_sign(digest: bytes) -> bytes:
    return pack(["polyclinic row signature", digest])
