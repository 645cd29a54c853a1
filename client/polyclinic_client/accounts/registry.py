"""The registry of a machine's accounts, a file outside every site's folder.

A tripwire against mistakes, not a proof: whoever owns the machine can remove it. It holds what each
account can have spent, and keyed hashes of patient numbers, which nothing but `data add` compares.
"""

from __future__ import annotations

import os
import pwd
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from polyclinic_client.accounts.rule import SecondRule
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.ledger.entries import Share, shares_of
from polyclinic_client.records.entry import Digest, Entry
from polyclinic_client.records.sqlite_file import OpenFiles, coded, make_file, open_file
from polyclinic_common.errors import Code, ConsortiumError, LedgerError
from polyclinic_common.privacy.charges import Charge

KIND = b"polyclinic accounts 1"
TIMEOUT = 30.0  # seconds
FILE = Path("polyclinic") / "accounts.sqlite"
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
    "CREATE TABLE accounts (identity BLOB PRIMARY KEY, content TEXT NOT NULL) STRICT",
    "CREATE TABLE tables (identity BLOB NOT NULL, study BLOB NOT NULL, patients BLOB NOT NULL,"
    " PRIMARY KEY (identity, study)) STRICT",
)


class Account(Entry):
    """One account of a hospital.

    Attributes
    ----------
    identity : bytes
        The key that signs its ledger.
    folder : str
        Where the site's folder was seen last.
    made : int
        When it was entered, in milliseconds since 1970.
    name, consortium : str
        Of the hospital and its consortium; empty until it has joined.
    rule : SecondRule or None
        What keeps its patients apart from those of other accounts.
    most : tuple of Share
        What it can have spent: every release made or approved by then, at fallback.
    into : bytes
        Identity of the account that counts this one's spending since it was ended; empty while it
        stands.
    overlapping : bool
        Whether a table of this account, or of another, was found to hold patients of both.
    """

    identity: Digest
    folder: str
    made: Annotated[int, Field(ge=0)]
    name: str = ""
    consortium: str = ""
    rule: SecondRule | None = None
    most: tuple[Share, ...] = ()
    into: bytes = b""
    overlapping: bool = False

    @property
    def stands(self) -> bool:
        """Whether it was neither merged nor begun anew."""
        return not self.into

    @property
    def spent(self) -> Counter[Charge]:
        """The most that it can have spent."""
        return Counter({share.charge: share.count for share in self.most})

    def noted(self, most: Mapping[Charge, int]) -> Account:
        """Return the account with what it can have spent by now; never less than before."""
        return self.model_copy(update={"most": shares_of(self.spent | Counter(most))})

    def ended(self, into: bytes) -> Account:
        """Return the account as it is once another counts what it spent."""
        return self.model_copy(update={"into": into})

    def is_lost(self) -> bool:
        """Say whether its folder is gone, or is another account's now."""
        try:
            return read_identity(Path(self.folder)).public != self.identity
        except LedgerError as error:
            return error.code is Code.LEDGER_ABSENT


class Registry(OpenFiles):
    """The accounts of a machine and user; made by `open`. Every change is inside `writing`."""

    def __init__(self, path: Path, connection: sqlite3.Connection):
        self.path = path
        self._connection = connection

    @staticmethod
    def open(path: Path, *, create: bool = False) -> Registry:
        """Open a registry; `create` makes one, readable by its owner only, where there is none.

        Raises
        ------
        ConsortiumError
            A004 if there is none, A005 if it cannot be used.
        """
        with _coded(path):
            if create:
                with coded(path):
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                make_file(path)
            registry = Registry(path, open_file(path, timeout=TIMEOUT))
        try:
            if create:
                with registry.writing():
                    registry._make()
            registry._check_kind()
        except BaseException:
            registry.close()
            raise
        return registry

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def key(self) -> bytes:
        """The 32 bytes that patient numbers are hashed under."""
        return self._meta("key")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the registry against all other processes; an error undoes what was changed."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def accounts(self) -> dict[bytes, Account]:
        """Return all accounts by identity, the oldest first."""
        found = []
        for identity, content in self._execute("SELECT identity, content FROM accounts"):
            try:
                account = Account.model_validate_json(content)
            except ValidationError:
                raise _unusable(self.path, "an account in it cannot be read") from None
            if account.identity != identity:
                raise _unusable(self.path, "an account in it is not what was written")
            found.append(account)
        return {each.identity: each for each in sorted(found, key=lambda each: each.made)}

    def put(self, *accounts: Account) -> None:
        """Write accounts, in the place of what stands there of them."""
        for each in accounts:
            row = (each.identity, each.body().decode())
            self._execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", row)

    def tables(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Give identity of the account, study hash and hashes of patients of every table."""
        yield from self._execute("SELECT identity, study, patients FROM tables")

    def put_table(self, identity: bytes, study_hash: bytes, patients: bytes) -> None:
        """Write the hashes of a table's patients, in the place of what stands there of it."""
        row = (identity, study_hash, patients)
        self._execute("INSERT OR REPLACE INTO tables VALUES (?, ?, ?)", row)

    def _make(self) -> None:
        """Make the tables in a file that has none."""
        ((tables,),) = self._execute("SELECT count(*) FROM sqlite_master")
        if tables:
            return
        for statement in _SCHEMA:
            self._execute(statement)
        for row in (("kind", KIND), ("key", secrets.token_bytes(32))):
            self._execute("INSERT INTO meta VALUES (?, ?)", row)

    def _check_kind(self) -> None:
        if self._meta("kind") != KIND or len(self.key) != 32:
            raise _unusable(self.path, "it is not a registry of accounts")

    def _meta(self, name: str) -> bytes:
        found = self._execute("SELECT value FROM meta WHERE name = ?", (name,))
        return bytes(found[0][0]) if found else b""

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with _coded(self.path), coded(self.path):
            return self._connection.execute(statement, values).fetchall()


def default_registry() -> Path:
    """Return where this user's registry lies on this machine.

    It follows from the user alone, not from the environment: a service and a terminal of one user
    must find the same accounts.

    Raises
    ------
    ConsortiumError
        A004 if the machine does not know the user.
    """
    if os.getuid() == 0:
        return Path("/var/lib") / FILE
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise ConsortiumError(
            Code.ACCOUNTS_ABSENT,
            "This machine knows no home of its user, to keep the registry of accounts in.",
            "Name a file on a volume that stays, with --accounts.",
        ) from None
    return Path(home) / ".local" / "state" / FILE


@contextmanager
def _coded(path: Path) -> Iterator[None]:
    """Turn what is wrong with the file into errors that name the registry's own remedy."""
    try:
        yield
    except LedgerError as error:
        if error.code is Code.LEDGER_ABSENT:
            raise absent(f"There is no registry of accounts in {path}.") from None
        raise _unusable(path, error.what.rstrip(".")) from error


def absent(what: str) -> ConsortiumError:
    """Return the error for a registry that does not know a site, or is not there."""
    return ConsortiumError(
        Code.ACCOUNTS_ABSENT,
        what,
        "Put it back from a copy or mount its volume; if it is lost, run in every site's folder: "
        "polyclinic client accounts restore",
    )


def _unusable(path: Path, why: str) -> ConsortiumError:
    return ConsortiumError(
        Code.ACCOUNTS_DAMAGED,
        f"The registry of accounts {path} cannot be used: {why}; nothing was changed.",
        "Mend the disk or put the file back from a copy; if it is lost, move it away and run: "
        "polyclinic client accounts restore",
    )
