"""A SQLite file that keeps what it was told: local disk, synced commits, coded errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from polyclinic_common.errors import Code, LedgerError

MODE = 0o600
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "glusterfs"}
    | {"ncpfs", "ocfs2", "gfs2", "vboxsf", "prl_fs", "vmhgfs", "davfs", "beegfs"}
)
_UNSOUND = frozenset(
    {
        0,  # raised by Python: text that is not UTF-8
        sqlite3.SQLITE_ERROR,  # a table or column is not there
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
    }
)
_MOUNTS = Path("/proc/mounts")


class OpenFiles:
    """What holds open files: a context manager that closes them."""

    def close(self) -> None:
        """Close the files."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def coded(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system say about the file into coded errors."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # a defect of the caller, not of the disk
    except sqlite3.Error as error:
        if _primary_code(error) in _UNSOUND:
            raise damaged(path, "it is not a sound database") from error
        raise _unwritable(path, str(error)) from error
    except UnicodeDecodeError as error:
        raise damaged(path, "its text is not readable") from error
    except OSError as error:
        raise _unwritable(path, error.strerror or "input/output error") from error


def damaged(path: Path, why: str) -> LedgerError:
    """Return the error for a file that does not hold what this hospital wrote."""
    return LedgerError(
        Code.LEDGER_DAMAGED,
        f"{path} is damaged: {why}; nothing leaves.",
        "Restore the file from the latest copy, then run: polyclinic client ledger recover",
    )


def absent(path: Path) -> LedgerError:
    """Return the error for a file that is not there."""
    return LedgerError(
        Code.LEDGER_ABSENT,
        f"There is no {path}.",
        "Check the path of the site's folder.",
    )


def open_file(
    path: Path, *, timeout: float, read_only: bool = False, durable: bool = True
) -> sqlite3.Connection:
    """Return a connection to an existing file, in autocommit mode, synced at every commit.

    Parameters
    ----------
    timeout : float
        Seconds to wait for another process's transaction.
    durable : bool
        False leaves syncing to the operating system, so that a power failure can lose or spoil
        what was committed. For simulated hospitals, which hold no patient's budget.

    Raises
    ------
    LedgerError
        L001 if there is no file, L003 if it is not on a local disk or cannot be opened.
    """
    require_local(path)
    if not path.is_file():
        raise absent(path)
    mode = "ro" if read_only else "rw"
    with coded(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        connection.execute("PRAGMA secure_delete=ON")
    return connection


def make_file(path: Path) -> None:
    """Make an empty file that only its owner may read; one that exists is left as it is."""
    with coded(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, MODE))


def require_local(path: Path) -> None:
    """Refuse a network file system: its locks and syncs are not those that SQLite relies on."""
    kind = file_system(path.absolute())
    if kind in REMOTE or kind.startswith("fuse."):
        raise LedgerError(
            Code.LEDGER_STORE,
            f"{path} would lie on a network file system ({kind}), where commits can be lost.",
            "Put the site's folder on a disk of this machine.",
        )


def file_system(path: Path) -> str:
    """Return the type of the file system that holds `path` (proc(5), mounts)."""
    mounts = [line.split(" ") for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    resolved = path.resolve()
    above = {str(each): len(each.parts) for each in (resolved, *resolved.parents)}
    holding = [
        (above[place], index, kind)
        for index, (_, where, kind, *_) in enumerate(mounts)
        if (place := _unescaped(where)) in above
    ]
    return max(holding)[2] if holding else ""


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _primary_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _unwritable(path: Path, why: str) -> LedgerError:
    return LedgerError(
        Code.LEDGER_STORE,
        f"{path} cannot be used ({why}); nothing leaves.",
        "Check free space, permissions, whether another process holds it; then ask again.",
    )
