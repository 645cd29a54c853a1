"""Messages as Flower records: one header with label and fields, at most one vector.

A message is exactly what its class declares: an unknown record, field, type, shape, or a number
that is not finite is refused whole.
"""

from __future__ import annotations

from dataclasses import fields
from io import BytesIO
from typing import Any, TypeVar, get_args

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray
from pydantic import ValidationError

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.packing import Plain, Value, pack, unpack
from polyclinic_common.wire.messages import MAX_LENGTH, Reason, Release, Request, SumRecord

PROTOCOL = 3
_HEADER = "polyclinic"
_BODY = "body"
_ARRAYS = "vectors"
_VECTOR = "vector"
_VECTOR_FIELDS = ("weights", "vector")
_DTYPES = ("float64", "uint64")

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
    records = RecordDict({_HEADER: ConfigRecord({"protocol": PROTOCOL, _BODY: body})})
    if vectors:
        records[_ARRAYS] = ArrayRecord({_VECTOR: Array(vectors[0])})
    return records


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
    parts = _body(records)
    kind = next((kind for kind in kinds if parts and kind.label == parts[0]), None)
    if kind is None:
        raise _refused("it is of no kind that is expected here")
    names = [field.name for field in fields(kind)]
    vector_names = [name for name in names if name in _VECTOR_FIELDS]
    plain_names = [name for name in names if name not in _VECTOR_FIELDS]
    if len(parts) != len(plain_names) + 1 or (_ARRAYS in records) != bool(vector_names):
        raise _refused("its fields are not those of its kind")
    try:
        values: dict[str, Any] = {
            name: _read(name, part) for name, part in zip(plain_names, parts[1:], strict=True)
        }
        values |= {name: _read_vector(records) for name in vector_names}
        return kind(**values)
    except ValidationError:
        raise _refused("a field is not what its kind declares") from None


def _body(records: RecordDict) -> tuple[Plain, ...]:
    header = records.get(_HEADER)
    if not isinstance(header, ConfigRecord) or not set(records) <= {_HEADER, _ARRAYS}:
        raise _refused("its records are not those of the protocol")
    if set(header) != {"protocol", _BODY} or header["protocol"] != PROTOCOL:
        raise _refused("it speaks another version of the protocol")
    body = header[_BODY]
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


def _read_vector(records: RecordDict) -> NDArray[np.generic]:
    arrays = records[_ARRAYS]
    if not isinstance(arrays, ArrayRecord) or set(arrays) != {_VECTOR}:
        raise _refused("it does not hold exactly one vector")
    array = arrays[_VECTOR]
    if array.dtype not in _DTYPES or array.stype != "numpy.ndarray" or len(array.shape) != 1:
        raise _refused("its vector is not one-dimensional")
    if not 1 <= array.shape[0] <= MAX_LENGTH:
        raise _refused("its vector has no permitted length")
    header = _npy_header(array.dtype, array.shape[0])
    if array.data[: len(header)] != header or len(array.data) != len(header) + 8 * array.shape[0]:
        raise _refused("its vector is not what its header says")
    return np.frombuffer(array.data, dtype=np.dtype(array.dtype), offset=len(header))


def _npy_header(dtype: str, length: int) -> bytes:
    """Return the one header that Flower writes before such a vector: NumPy's format 1.0.

    Nothing else is parsed: a hostile header could ask for any amount of memory.
    """
    file = BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (length,)}
    )
    return file.getvalue()


def _refused(why: str) -> MessageError:
    return MessageError(
        Code.MESSAGE_INVALID,
        f"A message was refused: {why}.",
        "Check that server and sites run the same version of Polyclinic.",
    )
