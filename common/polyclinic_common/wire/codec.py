"""Messages as one Flower record: label and fields, and at most one vector.

A message is exactly what its class declares: an unknown record, field, type, length, or a number
that is not finite is refused whole. Flower sends every record and every array in calls of its own,
three for each array: so a vector travels as bytes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar, get_args

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray
from pydantic import ValidationError

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.packing import Plain, Value, pack, unpack
from polyclinic_common.version import VERSION
from polyclinic_common.wire.messages import (
    MAX_LENGTH,
    MaskedVector,
    Reason,
    Release,
    Request,
    SumRecord,
)

PROTOCOL = 5
_RECORD = "polyclinic"
_PROTOCOL, _BODY, _VECTOR = "protocol", "body", "vector"
_VECTOR_FIELDS = ("weights", "vector")

M = TypeVar("M", bound=Request | Release)


def encode_request(message: Request) -> RecordDict:
    """Return the Flower records of a request."""
    return _encode(message)


def encode_reply(message: Release) -> RecordDict:
    """Return the Flower records of what a site releases; only the gate may call this."""
    return _encode(message)


def decode_request(records: RecordDict) -> Request:
    """Read a request; anything unexpected raises `MessageError`."""
    message: Request = _decode(records, get_args(Request))
    return message


def decode_reply(records: RecordDict) -> Release:
    """Read a site's release; anything unexpected raises `MessageError`."""
    message: Release = _decode(records, get_args(Release))
    return message


def _encode(message: Request | Release) -> RecordDict:
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    vectors = [values.pop(name) for name in _VECTOR_FIELDS if name in values]
    body = pack([message.label, *map(_plain, values.values())])
    record = ConfigRecord({_PROTOCOL: PROTOCOL, _BODY: body})
    for vector in vectors:
        record[_VECTOR] = vector.astype(_dtype(type(message)), copy=False).tobytes()
    return RecordDict({_RECORD: record})


def _plain(value: object) -> Value:
    """Return a field as `pack` takes it: a record as the list of its fields, None as no fields."""
    match value:
        case None:
            return ()
        case SumRecord():
            return [getattr(value, field.name) for field in fields(value)]
        case Reason():
            return value.value
        case int() | str() | bytes() | tuple():
            return value
    raise TypeError(f"{type(value).__name__} is not part of the protocol")


def _decode(records: RecordDict, kinds: tuple[type[M], ...]) -> M:
    record = _record(records)
    parts = _body(record)
    kind = next((kind for kind in kinds if parts and kind.label == parts[0]), None)
    if kind is None:
        raise _refused("it is of no kind that is expected here")
    names = [field.name for field in fields(kind)]
    vector_names = [name for name in names if name in _VECTOR_FIELDS]
    plain_names = [name for name in names if name not in _VECTOR_FIELDS]
    if len(parts) != len(plain_names) + 1 or (_VECTOR in record) != bool(vector_names):
        raise _refused("its fields are not those of its kind")
    try:
        values: dict[str, Any] = {
            name: _read(name, part) for name, part in zip(plain_names, parts[1:], strict=True)
        }
        values |= {name: _read_vector(record[_VECTOR], _dtype(kind)) for name in vector_names}
        return kind(**values)
    except ValidationError:
        raise _refused("a field is not what its kind declares") from None


def _record(records: RecordDict) -> ConfigRecord:
    record = records.get(_RECORD)
    if not isinstance(record, ConfigRecord) or set(records) != {_RECORD}:
        raise _refused("its records are not those of the protocol")
    if not {_PROTOCOL, _BODY} <= set(record) <= {_PROTOCOL, _BODY, _VECTOR}:
        raise _refused("its record has other entries")
    if record[_PROTOCOL] != PROTOCOL:
        raise _refused(
            f"it speaks another protocol than {PROTOCOL}, which is that of Polyclinic {VERSION}"
        )
    return record


def _body(record: ConfigRecord) -> tuple[Plain, ...]:
    body = record[_BODY]
    parts = unpack(body) if isinstance(body, bytes) else ()
    if not isinstance(parts, tuple):
        raise _refused("its body is not a list of fields")
    return parts


def _read(name: str, part: Plain) -> object:
    """Return a field as its class takes it."""
    if name == "previous" and isinstance(part, tuple):
        if not part:
            return None
        names = [field.name for field in fields(SumRecord)]
        if len(part) != len(names):
            raise _refused("a record of the history has other fields")
        known: dict[str, Any] = dict(zip(names, part, strict=True))
        return SumRecord(**known)
    if name == "reason":
        if not isinstance(part, str) or part not in set(Reason):
            raise _refused("it names an unknown reason")
        return Reason(part)
    return part


def _dtype(kind: type[object]) -> str:
    """Return how the numbers of a vector are written: little-endian, whole if they are masked."""
    return "<u8" if kind is MaskedVector else "<f8"


def _read_vector(data: object, dtype: str) -> NDArray[np.generic]:
    if not isinstance(data, bytes) or len(data) % 8 or not 1 <= len(data) // 8 <= MAX_LENGTH:
        raise _refused("its vector has no permitted length")
    return np.frombuffer(data, dtype)


def _refused(why: str) -> MessageError:
    return MessageError(
        Code.MESSAGE_INVALID,
        f"A message was refused: {why}.",
        "Check that server and sites run the same version of Polyclinic.",
    )
