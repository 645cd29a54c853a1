"""Writing files: whole or not at all, and never over one that a person may have edited."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from polyclinic_common.errors import Code, DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(content: bytes) -> str:
    """Return the text in a file that a person wrote: UTF-8, or what its byte order mark says.

    Raises
    ------
    UnicodeDecodeError
        If it is neither.
    """
    marked = (encoding for mark, encoding in _MARKS if content.startswith(mark))
    return content.decode(next(marked, "utf-8"))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_private(path: Path, content: bytes) -> None:
    """Write as `write_atomically` does, readable by its owner only from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_new(path: Path, content: str | bytes) -> None:
    """Write text, or bytes, to a file that must not exist yet.

    Raises
    ------
    DataError
        If there is such a file already, or the folder cannot be written to.
    """
    try:
        with path.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except FileExistsError:
        raise DataError(
            Code.FILE_EXISTS,
            f"The file {path} exists already and is left as it is.",
            "Choose another name or remove the file.",
        ) from None
    except OSError as error:
        raise DataError(
            Code.DATA_FOLDER,
            f"The file {path} cannot be written ({error.strerror}).",
            "Check the folder and its permissions.",
        ) from None
