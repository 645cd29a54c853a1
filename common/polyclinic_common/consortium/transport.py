"""Limits of the gRPC services, and how a coded error crosses them."""

from __future__ import annotations

import grpc

from polyclinic_common.errors import Code, ConsortiumError, PolyclinicError
from polyclinic_common.version import VERSION

LARGEST_MESSAGE = 1 << 22  # bytes
LARGEST_JOINING = 1 << 14
MODEL_PART = 1 << 18
UNARY_S = 20.0
STREAM_S = 3600.0  # to watch a run
FETCH_S = 600.0  # to take a model or kept rows
LARGEST_STUDY = 3 << 20  # bytes of its canonical form: what fits into a message, with room
PREFLIGHT = "Run: polyclinic client preflight"
_TOO_LARGE = "larger than max"  # gRPC's words for a message beyond `limits`
CODE_KEY, REMEDY_KEY = "polyclinic-code", "polyclinic-remedy-bin"

STATUS = {
    Code.INVITATION_UNKNOWN: grpc.StatusCode.PERMISSION_DENIED,
    Code.INVITATION_USED: grpc.StatusCode.PERMISSION_DENIED,
    Code.INVITATION_EXPIRED: grpc.StatusCode.PERMISSION_DENIED,
    Code.CERTIFICATE_REFUSED: grpc.StatusCode.UNAUTHENTICATED,
    Code.TOO_MANY_TRIES: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.STUDY_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Code.RUN_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Code.BUNDLE_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Code.REQUEST_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Code.SERVER_FAULT: grpc.StatusCode.INTERNAL,
}


def status_of(code: Code) -> grpc.StatusCode:
    """Return the gRPC status that goes with a code."""
    return STATUS.get(code, grpc.StatusCode.FAILED_PRECONDITION)


def metadata_of(error: PolyclinicError) -> tuple[tuple[str, str | bytes], ...]:
    """Return what travels beside an error's sentence: its code and its remedy."""
    return ((CODE_KEY, error.code.value), (REMEDY_KEY, error.remedy.encode()))


def limits(largest: int) -> list[tuple[str, int]]:
    """Return channel options: message and header sizes, in bytes."""
    return [
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_send_message_length", largest),
        ("grpc.max_metadata_size", 8192),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def read_error(error: grpc.RpcError, address: str, look: str = PREFLIGHT) -> PolyclinicError:
    """Return the coded error in what a call raised.

    Parameters
    ----------
    address : str
        Who was called.
    look : str
        What finds out why the server is not reached.
    """
    assert isinstance(error, grpc.Call)  # noqa: S101  (every error of a call is one)
    carried = dict(error.trailing_metadata() or ())
    code, remedy = carried.get(CODE_KEY), carried.get(REMEDY_KEY)
    known = {each.value: each for each in Code}
    if isinstance(code, str) and code in known and isinstance(remedy, bytes):
        what = str(error.details())
        return ConsortiumError(known[code], what, remedy.decode(errors="replace"))
    return _uncoded(error.code(), str(error.details()), address, look)


def _uncoded(status: grpc.StatusCode, details: str, address: str, look: str) -> ConsortiumError:
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details:
        return ConsortiumError(
            Code.STUDY_TOO_LARGE,
            f"A message of {address} would be larger than one may be.",
            "Ask the operator to run this version of Polyclinic, which sends long lists in pages, "
            "and to close studies that are too large.",
        )
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return ConsortiumError(
            Code.SERVER_OLDER,
            f"The server {address} runs an earlier version of Polyclinic, which does not know "
            "this call.",
            f"Ask the operator to upgrade the server to {VERSION}, or later.",
        )
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ConsortiumError(
            Code.TOO_MANY_TRIES,
            f"The server {address} takes no more calls now.",
            "Wait a minute and try again.",
        )
    return ConsortiumError(
        Code.NOT_REACHED,
        f"The server {address} was not reached, or is not this consortium's ({status.name}).",
        look,
    )
