"""Typed messages between server and site, and their one codec to Flower records.

A message is exactly what is declared here: an unknown record, field, type, shape, or a number that
is not finite is refused whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from polyclinic_common.errors import Code, MessageError

PROTOCOL = 1
MAX_LENGTH = 1 << 24
_HEADER = "polyclinic"
_ARRAYS = "vectors"
_VECTOR = "vector"


class Reason(StrEnum):
    """Why a site refuses; each depends on messages and public parameters alone."""

    NOT_APPROVED = "not_approved"
    EXPIRED = "expired"
    OUT_OF_ORDER = "out_of_order"
    OVER_BUDGET = "over_budget"
    BAD_MESSAGE = "bad_message"


@dataclass(frozen=True)
class TrainRequest:
    """The server asks a site for its contribution to one round.

    Attributes
    ----------
    study_hash, run_id : str
        What is trained, and in which run.
    round_number : int
        Counts from 1.
    weights : array of shape (d,), float64
        The current model.
    """

    study_hash: str
    run_id: str
    round_number: int
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class PrivateUpdate:
    """A site's release: its clipped and noised gradient sum, shape (d,), float64."""

    study_hash: str
    run_id: str
    round_number: int
    vector: NDArray[np.float64]


@dataclass(frozen=True)
class Refusal:
    """A site's refusal."""

    reason: Reason


def encode_request(message: TrainRequest) -> RecordDict:
    """Return the Flower records of a request."""
    return _encode("train_request", _identity(message), message.weights)


def decode_request(records: RecordDict) -> TrainRequest:
    """Read a request; anything unexpected raises `MessageError`."""
    kind, fields, vector = _decode(records)
    if kind != "train_request" or vector is None:
        raise _refused("it is not a train request")
    return TrainRequest(*_read_identity(fields), vector)


def encode_reply(message: PrivateUpdate | Refusal) -> RecordDict:
    """Return the Flower records of a reply."""
    if isinstance(message, Refusal):
        return _encode("refusal", {"reason": message.reason.value}, None)
    return _encode("private_update", _identity(message), message.vector)


def decode_reply(records: RecordDict) -> PrivateUpdate | Refusal:
    """Read a reply; anything unexpected raises `MessageError`."""
    kind, fields, vector = _decode(records)
    if kind == "refusal" and vector is None and set(fields) == {"reason"}:
        reason = fields["reason"]
        if not isinstance(reason, str) or reason not in set(Reason):
            raise _refused("it names an unknown reason")
        return Refusal(Reason(reason))
    if kind != "private_update" or vector is None:
        raise _refused("it is neither an update nor a refusal")
    return PrivateUpdate(*_read_identity(fields), vector)


def _identity(message: TrainRequest | PrivateUpdate) -> dict[str, str | int]:
    return {
        "study_hash": message.study_hash,
        "run_id": message.run_id,
        "round_number": message.round_number,
    }


def _read_identity(fields: Mapping[str, object]) -> tuple[str, str, int]:
    study_hash, run_id = fields.get("study_hash"), fields.get("run_id")
    number = fields.get("round_number")
    if set(fields) != {"study_hash", "run_id", "round_number"}:
        raise _refused("its fields are not those of the protocol")
    if not isinstance(study_hash, str) or not isinstance(run_id, str):
        raise _refused("a name is not text")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 1_000_000:
        raise _refused("its round number is out of range")
    return study_hash, run_id, number


def _encode(
    kind: str, fields: Mapping[str, str | int], vector: NDArray[np.float64] | None
) -> RecordDict:
    header = ConfigRecord({"protocol": PROTOCOL, "kind": kind, **fields})
    records = RecordDict({_HEADER: header})
    if vector is not None:
        records[_ARRAYS] = ArrayRecord({_VECTOR: Array(vector)})
    return records


def _decode(
    records: RecordDict,
) -> tuple[str, dict[str, object], NDArray[np.float64] | None]:
    header = records.get(_HEADER)
    if not isinstance(header, ConfigRecord) or not set(records) <= {_HEADER, _ARRAYS}:
        raise _refused("its records are not those of the protocol")
    fields: dict[str, object] = dict(header)
    if fields.pop("protocol", None) != PROTOCOL:
        raise _refused("it speaks another version of the protocol")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise _refused("it has no kind")
    return kind, fields, _read_vector(records) if _ARRAYS in records else None


def _read_vector(records: RecordDict) -> NDArray[np.float64]:
    arrays = records[_ARRAYS]
    if not isinstance(arrays, ArrayRecord) or set(arrays) != {_VECTOR}:
        raise _refused("it does not hold exactly one vector")
    array = arrays[_VECTOR]
    if array.dtype != "float64" or array.stype != "numpy.ndarray" or len(array.shape) != 1:
        raise _refused("its vector is not one-dimensional float64")
    if not 1 <= array.shape[0] <= MAX_LENGTH:
        raise _refused("its vector has no permitted length")
    try:
        vector = np.asarray(array.numpy())
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise _refused("its vector cannot be read") from error
    if vector.dtype != np.float64 or vector.shape != tuple(array.shape):
        raise _refused("its vector is not what its header says")
    if not np.isfinite(vector).all():
        raise _refused("its vector is not finite")
    return vector


def _refused(why: str) -> MessageError:
    return MessageError(
        Code.MESSAGE_INVALID,
        f"A message was refused: {why}.",
        "Check that server and sites run the same version of Polyclinic.",
    )
