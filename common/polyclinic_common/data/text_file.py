"""A table's file as bytes and as lines of text, or the reason why it is neither."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from polyclinic_common.errors import Code, DataError

BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
ZIPPED = b"\x1f\x8b"
BYTES_LOOKED_AT = 4096
LEAST_ZEROS = 0.25  # of the pairs of bytes: separators, digits and line ends in any language


@dataclass(frozen=True)
class Lines:
    """The lines of a table's file.

    Attributes
    ----------
    lines : list of str
        With their ends; without a line that says ``sep=``.
    separator : str
        What that line says; empty if there is none.
    """

    lines: list[str]
    separator: str = ""

    @property
    def before(self) -> int:
        """How many lines of the file stand before the first of `lines`."""
        return 1 if self.separator else 0


def unreadable(path: Path, what: str, remedy: str) -> DataError:
    """Return the error D001 on the table at `path`."""
    return DataError(Code.TABLE_UNREADABLE, f"The table {path.name} {what}.", remedy)


def content_of(path: Path, most: int = -1) -> bytes:
    """Return the first `most` bytes of a file; all if negative.

    Raises
    ------
    DataError
        D001 if it is absent, a folder or may not be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise unreadable(path, "does not exist", "Check the path and the file's name.") from None
    except IsADirectoryError:
        raise unreadable(path, "is a folder", "Name the file in it.") from None
    except PermissionError:
        raise unreadable(
            path, "may not be read by this user", "Give this user the permission to read it."
        ) from None
    except OSError as error:
        raise unreadable(
            path, f"cannot be read: {error.strerror}", "Copy it to a disk of this machine."
        ) from None


def unzipped(path: Path) -> bytes:
    """Return what a file holds, unpacked if it was packed with gzip.

    Raises
    ------
    DataError
        D001 as `content_of`, or if the packed file is damaged.
    """
    content = content_of(path)
    if not content.startswith(ZIPPED):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise unreadable(
            path, "is a gzip file that is damaged or cut off", "Copy or export it again."
        ) from None


def seen_encoding(content: bytes, stated: str) -> str:
    """Return the encoding in which a text seems to be written: `stated`, unless another fits."""
    marked = next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), None)
    if marked is not None:
        return marked
    order = _zeros(content)
    if order is not None:
        return order
    if stated == "utf-8" and not _decodes(content, stated) and _decodes(content, "cp1252"):
        return "cp1252"
    return stated


def _zeros(content: bytes) -> str | None:
    """Return UTF-16 in the order of bytes that the zeros of plain letters show."""
    head = content[:BYTES_LOOKED_AT]
    first, second = head[0::2].count(0), head[1::2].count(0)
    if max(first, second) < LEAST_ZEROS * len(head) / 2 or min(first, second) > 0:
        return None
    return "utf-16-be" if first else "utf-16-le" if second else None


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def lines_of(path: Path, stated: str, separators: tuple[str, ...]) -> Lines:
    """Return the lines of a file in the encoding that its byte order mark or else `stated` says.

    Raises
    ------
    DataError
        D001 as `unzipped` or at a byte of zeros; D002 if it is not of that encoding.
    """
    content = unzipped(path)
    encoding = seen_encoding(content, stated)
    marked = any(content.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)
    if encoding.startswith("utf-16") and encoding != stated and not marked:
        raise DataError(
            Code.TABLE_ENCODING,
            f"The table {path.name} is UTF-16 text without a byte order mark ({encoding}).",
            f'Export it again as UTF-8, or state in the mapping: [table] encoding = "{encoding}"',
        )
    text = _decoded(path, content, encoding if marked else stated, encoding)
    lines = list(io.StringIO(text, newline=""))
    if "\0" in text:
        number = next(n for n, line in enumerate(lines, 1) if "\0" in line)
        raise unreadable(
            path,
            f"holds a byte of zeros in line {number}",
            "It was damaged or is no text: copy or export it again.",
        )
    if lines and lines[0].lower().startswith("sep=") and lines[0][4:5] in separators:
        return Lines(lines[1:], lines[0][4])
    return Lines(lines)


def _decoded(path: Path, content: bytes, encoding: str, seen: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, errors="replace")
        other = seen if seen != encoding else "utf-8"
        state = (
            ""
            if other == encoding
            else f', or state the encoding in the mapping: [table] encoding = "{other}"'
        )
        raise DataError(
            Code.TABLE_ENCODING,
            f"The table {path.name} is not {encoding.upper()} text: line "
            f"{before.count(chr(10)) + 1}, byte {error.start + 1} of the file.",
            f"Export it again as UTF-8{state}",
        ) from None
