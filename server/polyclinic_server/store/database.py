"""The database under the store, and the errors that all its parts raise."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_server.store.migrate import upgrade

_BUSY_S = 15


class Database:
    """An open database; every transaction is that of one method of the store.

    Parameters
    ----------
    url : str
        A database URL, for example ``sqlite:////var/lib/polyclinic/store.sqlite``; its schema is
        brought up to date.
    clock : callable
        Tells Unix time in seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._engine = create_engine(url)
        if make_url(url).get_backend_name() == "sqlite":
            event.listen(self._engine, "connect", _careful)
            event.listen(self._engine, "begin", _alone)
        upgrade(self._engine)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @property
    def engine(self) -> Engine:
        """The engine, for tools that look at the schema."""
        return self._engine

    def now(self) -> int:
        """Return Unix time in whole seconds."""
        return int(self._clock())

    def close(self) -> None:
        """Give up all connections."""
        self._engine.dispose()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._sessions.begin() as session:
            yield session


def bad_request(why: str) -> ConsortiumError:
    """Return the error for a request that the service does not take."""
    return ConsortiumError(
        Code.REQUEST_INVALID,
        f"A request was refused: {why}.",
        "Use the same version of Polyclinic at both ends.",
    )


def wrong_state(what: str, remedy: str) -> ConsortiumError:
    """Return the error for a hospital that is not there, or not as it must be."""
    return ConsortiumError(Code.SITE_STATE, what, remedy)


def _careful(connection: sqlite3.Connection, _record: object) -> None:
    """Let SQLite sync every commit, check foreign keys and wait for other processes."""
    connection.isolation_level = None  # transactions are begun by `_alone`
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_S * 1000}")
    cursor.close()


def _alone(connection: Connection) -> None:
    """Begin as the only writer: SQLite has no locks on rows, and what was read must still hold."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
