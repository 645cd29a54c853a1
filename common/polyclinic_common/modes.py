"""Folders that hold secrets: their owner's alone, or they are not used."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from polyclinic_common.errors import Code, ConsortiumError

FOLDER_MODE = 0o700
_OTHERS = 0o077
_ROOT = 0


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone may enter; one that is there is tightened.

    Raises
    ------
    ConsortiumError
        C029 if it belongs to another user.
    OSError
        If it cannot be made.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise ConsortiumError(
            Code.FOLDER_EXPOSED,
            f"The folder {folder} belongs to another user.",
            f"Name another, or run: sudo chown {os.geteuid()} {shlex.quote(str(folder))}",
        )
    folder.chmod(FOLDER_MODE)


def exposed(folder: Path, secrets: Sequence[str]) -> list[Path]:
    """Return what others than its owner may read or change: the folder, and secrets in it.

    Parameters
    ----------
    secrets : sequence of str
        Patterns of paths, seen from the folder; ``*`` is any name, ``**`` any folders.
    """
    start = glob.escape(str(folder))
    named = (glob.glob(os.path.join(start, each), recursive=True) for each in secrets)  # noqa: PTH118, PTH207
    found = {Path(path) for path in chain.from_iterable(named)}
    return [path for path in (folder, *sorted(found)) if _is_exposed(path)]


def require_private(folder: Path, secrets: Sequence[str]) -> None:
    """Refuse a folder that others may look into; nothing is repaired unasked.

    Raises
    ------
    ConsortiumError
        C029 with the command that mends it.
    """
    if loose := exposed(folder, secrets):
        raise _exposed(folder, loose)


def mending(paths: Sequence[Path]) -> str:
    """Return the command that takes these paths away from others."""
    names = " ".join(shlex.quote(str(path)) for path in paths)
    foreign = [path for path in paths if _is_foreign(path)]
    chown = " ".join(["sudo chown", str(os.geteuid()), *(shlex.quote(str(p)) for p in foreign)])
    return f"{chown} && chmod go= {names}" if foreign else f"chmod go= {names}"


def _is_exposed(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS) or _is_foreign(path)
    except FileNotFoundError:  # gone meanwhile: what SQLite keeps beside a database comes and goes
        return False


def _is_foreign(path: Path) -> bool:
    return path.stat().st_uid not in {os.geteuid(), _ROOT}


def _exposed(folder: Path, loose: Sequence[Path]) -> ConsortiumError:
    names = ", ".join("itself" if path == folder else path.name for path in loose)
    return ConsortiumError(
        Code.FOLDER_EXPOSED,
        f"Others than its owner may read or change what {folder} holds ({names}).",
        f"See who had access; then run: {mending(loose)}",
    )
