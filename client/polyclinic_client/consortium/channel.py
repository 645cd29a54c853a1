"""gRPC channels to a server, directly or through the proxy that the environment names."""

from __future__ import annotations

import grpc

from polyclinic_client.proxy import Proxy, proxy_for
from polyclinic_common.consortium.address import host_port
from polyclinic_common.consortium.transport import limits

Options = list[tuple[str, int | str]]


def open_channel(
    host: str, port: int, credentials: grpc.ChannelCredentials, largest: int
) -> grpc.Channel:
    """Return a channel; nothing is sent yet.

    Parameters
    ----------
    largest : int
        Bytes of a message.

    Raises
    ------
    ConsortiumError
        C033 if the environment names a proxy that cannot be used.
    """
    proxy, address = proxy_for(host, port), host_port(host, port)
    # gRPC would read the environment itself, otherwise than we do: it is told not to.
    options: Options = [*limits(largest), ("grpc.enable_http_proxy", 0)]
    if proxy is None:
        return grpc.secure_channel(address, credentials, options)
    return grpc.secure_channel(proxy.address, credentials, options + _through(proxy, host, address))


def _through(proxy: Proxy, host: str, address: str) -> Options:
    """Return what has a connection to the proxy be one to the server, and checked as such."""
    options: Options = [
        ("grpc.http_connect_server", address),
        ("grpc.ssl_target_name_override", host),
        ("grpc.default_authority", address),
    ]
    if proxy.authorization:
        header = f"Proxy-Authorization:{proxy.authorization}"
        options.append(("grpc.http_connect_headers", header))
    return options
