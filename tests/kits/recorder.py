"""What hospitals send, kept before TLS hides it."""

from __future__ import annotations

from typing import Any

import grpc


class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Keeps what a hospital sends, before TLS hides it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.sent.append(request.SerializeToString())
        return continuation(details, request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        self.sent.append(request.SerializeToString())
        return continuation(details, request)
