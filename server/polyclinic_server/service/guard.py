"""What stands before every call: a deadline, a hospital that may call, and errors as codes."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeAlias

import grpc
from cryptography import x509

from polyclinic_common.consortium.transport import STREAM_S, UNARY_S, metadata_of, status_of
from polyclinic_common.errors import Code, ConsortiumError, PolyclinicError
from polyclinic_common.identity import certificates
from polyclinic_server.store.database import bad_request
from polyclinic_server.store.store import Store
from polyclinic_server.store.tables import Site

log = logging.getLogger(__name__)
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Admit = Callable[[grpc.ServicerContext], AbstractContextManager[object]]


def may_connect(store: Store, certificate: certificates.Certificate) -> Site:
    """Return the hospital that this certificate, already checked by TLS, lets in now.

    Asked at every call, so that a revocation holds at once.

    Raises
    ------
    ConsortiumError
        C012 if it is revoked, expired, replaced or not known.
    """
    site = store.site_of(certificate.serial_number)
    if site is None or site.certificate != certificates.pem(certificate).decode():
        raise _shut_out("is not one of this consortium's hospitals'")
    if site.state != "joined":
        raise _shut_out("is revoked")
    if certificate.not_valid_after_utc <= dt.datetime.fromtimestamp(store.now(), dt.UTC):
        raise _shut_out("has expired")
    return site


def caller(store: Store, context: grpc.ServicerContext) -> Site:
    """Return the hospital that calls.

    Raises
    ------
    ConsortiumError
        C012 if its certificate does not let it in.
    """
    found: Sequence[Any] = context.auth_context().get("x509_pem_cert") or ()
    if len(found) != 1:
        raise _shut_out("is missing")
    return may_connect(store, x509.load_pem_x509_certificate(found[0]))


class Guard(grpc.ServerInterceptor):
    """Admits every call of every service, and answers failures with a code.

    A call is admitted before its message is waited for, which may never come: a handler of a stream
    of messages is what gRPC runs then.

    Parameters
    ----------
    admit : callable
        Raises a coded error if the call may not be answered; what it returns is held meanwhile.
    """

    def __init__(self, admit: Admit):
        self._admit = admit

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of a call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                self._answering(handler.unary_unary, method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(_of_one(handler.unary_stream), method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        both: Any = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(
            self._streaming(both, method),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _answering(
        self, behaviour: Callable[[Any, grpc.ServicerContext], Any], method: str
    ) -> Callable[[Any, grpc.ServicerContext], Any]:
        def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            with _Coded(context, method):
                require_deadline(context, UNARY_S)
                with self._admit(context):
                    return behaviour(_only(requests), context)

        return answer

    def _streaming(
        self, behaviour: Callable[[Any, grpc.ServicerContext], Iterator[Any]], method: str
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            with _Coded(context, method):
                require_deadline(context, STREAM_S)
                with self._admit(context):
                    yield from behaviour(requests, context)

        return stream


def _of_one(
    behaviour: Callable[[Any, grpc.ServicerContext], Iterator[Any]],
) -> Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]:
    """Return what answers a stream of one message as `behaviour` answers the message."""
    return lambda requests, context: behaviour(_only(requests), context)


def _only(requests: Iterator[Any]) -> Any:
    """Wait for the message of a call and return it."""
    try:
        for request in requests:
            return request
    except grpc.RpcError:  # cancelled, or its time is over
        pass
    raise bad_request("a call must carry a message")


class _Coded:
    """Ends a call whose body raised: with the error's code, or with C023 and nothing of the cause.

    gRPC itself would send the text of an exception.
    """

    def __init__(self, context: grpc.ServicerContext, method: str):
        self._context = context
        self._method = method

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, GeneratorExit):
            return
        if not isinstance(error, PolyclinicError):
            log.error("a call of %s failed", self._method, exc_info=error)
            error = ConsortiumError(
                Code.SERVER_FAULT,
                "Something failed inside the server.",
                "Ask the operator to look into its log.",
            )
        self._context.set_trailing_metadata(metadata_of(error))
        self._context.abort(status_of(error.code), error.what)


def require_deadline(context: grpc.ServicerContext, most: float) -> None:
    """Refuse a call that may last longer than so many seconds.

    Raises
    ------
    ConsortiumError
        C022 if it sets no deadline, or a later one.
    """
    left = context.time_remaining()
    if left is None or left > 1.1 * most:  # on the wire it is rounded up
        raise bad_request(f"a call must set a deadline of at most {most:.0f} seconds")


def _shut_out(why: str) -> ConsortiumError:
    return ConsortiumError(
        Code.CERTIFICATE_REFUSED,
        f"The certificate of the hospital that calls {why}.",
        "Ask the operator for a new invitation.",
    )
