"""A zip archive with one possible form: the same members are the same bytes, everywhere.

Nothing is compressed, every date is the first that zip knows, and members stand in the order given.
So an archive is read by writing its members again: a byte that differs anywhere, in a header, a
comment or behind the end, is found.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from polyclinic_common.errors import BundleError, Code

LARGEST = 256 * 1024 * 1024  # bytes
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX, _MODE = 3, 0o100644 << 16


def pack_members(members: Mapping[str, bytes]) -> bytes:
    """Return the archive of these members."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = _UNIX, _MODE
            archive.writestr(entry, content)
    return target.getvalue()


def unpack_members(content: bytes, name: str) -> dict[str, bytes]:
    """Return the members of an archive that `pack_members` wrote.

    Parameters
    ----------
    name : str
        What the file is called, for errors.

    Raises
    ------
    BundleError
        B001 if it is no such archive, to the last byte.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            stored = all(e.compress_type == zipfile.ZIP_STORED for e in archive.infolist())
            if not stored or sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise damaged(name)
            members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OSError):
        raise damaged(name) from None
    if pack_members(members) != content:
        raise damaged(name)
    return members


def read_file(path: Path) -> bytes:
    """Return what a file holds.

    Raises
    ------
    BundleError
        B001 if it cannot be read, or is larger than any bundle.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise damaged(path.name)
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            Code.BUNDLE_DAMAGED,
            f"The file {path} cannot be read ({error.strerror}).",
            "Check the path and its permissions.",
        ) from None


def damaged(name: str) -> BundleError:
    """Return the error for a file that is no bundle, or not as it was written."""
    return BundleError(
        Code.BUNDLE_DAMAGED,
        f"The file {name} is no released model, or is not as it was written.",
        "Get the file anew from whoever released it; use nothing of this one.",
    )
