"""One canonical byte string for one value: what the protocol hashes and signs.

Self-describing and injective: every item starts with a tag, every length is written out. Tags:
``i`` integer (8 bytes, big-endian, signed), ``f`` float (8 bytes, IEEE 754, big-endian, finite),
``b`` bytes, ``t`` UTF-8 text (length in 8 bytes, then content), ``l`` list (count in 8 bytes, then
items). ``docs/protocol.md`` gives test vectors.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from polyclinic_common.errors import Code, MessageError

Value = int | float | bytes | str | Sequence["Value"]
Plain = int | float | bytes | str | tuple["Plain", ...]

_DEEPEST = 8


def pack(value: Value) -> bytes:
    """Return the canonical bytes of `value`; tuples count as lists.

    Raises
    ------
    TypeError, ValueError, OverflowError
        If a value is of another type, a float is not finite or text not UTF-8, an integer is
        beyond 64 bits: a defect of the caller.
    """
    match value:
        case bool():
            raise TypeError("bool is not part of the protocol")
        case int():
            return b"i" + value.to_bytes(8, "big", signed=True)
        case float():
            if not math.isfinite(value):
                raise ValueError("not finite")
            return b"f" + struct.pack(">d", value)
        case bytes():
            return b"b" + len(value).to_bytes(8, "big") + value
        case str():
            text = value.encode()
            return b"t" + len(text).to_bytes(8, "big") + text
        case list() | tuple():
            return b"l" + len(value).to_bytes(8, "big") + b"".join(map(pack, value))
    raise TypeError(f"{type(value).__name__} is not part of the protocol")


def unpack(data: bytes) -> Plain:
    """Return the value of canonical bytes, lists as tuples, at most eight levels deep.

    Raises
    ------
    MessageError
        If the bytes are not exactly what `pack` gives for some value.
    """
    value, rest = _read(memoryview(data), _DEEPEST)
    if len(rest):
        raise _malformed()
    return value


def _read(data: memoryview, depth: int) -> tuple[Plain, memoryview]:
    if len(data) < 9 or depth == 0:
        raise _malformed()
    tag, head, rest = bytes(data[:1]), bytes(data[1:9]), data[9:]
    if tag == b"i":
        return int.from_bytes(head, "big", signed=True), rest
    if tag == b"f":
        number = float(struct.unpack(">d", head)[0])
        if not math.isfinite(number):
            raise _malformed()
        return number, rest
    count = int.from_bytes(head, "big")
    if count > len(rest):
        raise _malformed()
    if tag == b"l":
        items: list[Plain] = []
        for _ in range(count):
            item, rest = _read(rest, depth - 1)
            items.append(item)
        return tuple(items), rest
    return _read_text(tag, bytes(rest[:count])), rest[count:]


def _read_text(tag: bytes, content: bytes) -> Plain:
    if tag == b"b":
        return content
    if tag != b"t":
        raise _malformed()
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _malformed() from None


def _malformed() -> MessageError:
    return MessageError(
        Code.MESSAGE_INVALID,
        "A message was refused: its bytes are not in the protocol's encoding.",
        "Check that server and sites run the same version of Polyclinic.",
    )
