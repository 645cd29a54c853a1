"""The proxy between this machine and a server: the environment is read here, once, for everybody.

gRPC, httpx and Python's own HTTP each read the variables in a way of their own (upper case or not,
without a scheme or not, which hosts are left out). What is found here is handed to all of them, and
none of them looks for itself.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from polyclinic_common.consortium.address import host_port, read_host
from polyclinic_common.errors import Code, ConsortiumError

NAMES = ("https_proxy", "all_proxy", "http_proxy")  # the first that is set counts
LEFT_OUT = "no_proxy"
HTTP_PORT = 80


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that is asked to connect through (CONNECT).

    Attributes
    ----------
    host, port : str, int
        Where it listens.
    variable : str
        Which variable of the environment names it.
    user, password : str
        What it asks for; both empty if nothing.
    """

    host: str
    port: int
    variable: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """Host and port."""
        return host_port(self.host, self.port)

    @property
    def line(self) -> str:
        """What is shown of it: never the credentials."""
        shown = f"{self.address}, as {self.variable} says"
        return f"{shown}, with credentials" if self.user or self.password else shown

    @property
    def authorization(self) -> str:
        """Return the value of the header Proxy-Authorization; empty if it asks for nothing."""
        if not (self.user or self.password):
            return ""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


def proxy_for(host: str, port: int, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy through which a server is called; None if it is called directly.

    A variable in lower case counts before the same one in upper case, `https_proxy` before
    `all_proxy` before `http_proxy`.

    Raises
    ------
    ConsortiumError
        C033 if the variable that counts names no HTTP proxy.
    """
    named = ((name, _value(name, environment)) for name in NAMES)
    variable, text = next(((name, text) for name, text in named if text), ("", ""))
    if not text or is_left_out(host, port, _value(LEFT_OUT, environment)):
        return None
    return _read(variable, text)


def is_left_out(host: str, port: int, words: str) -> bool:
    """Say whether `no_proxy` leaves a server out.

    Its words are parted by commas or blanks: ``*``, a host, a domain with all below it (with or
    without a dot or ``*.`` before it), an IP address or network, each with or without a port.
    """
    return any(_fits(host.lower(), port, word) for word in re.split(r"[,\s]+", words) if word)


def way_to(host: str, port: int) -> str:
    """Say in words how a server is called."""
    proxy = proxy_for(host, port)
    return "directly, without a proxy" if proxy is None else f"through the proxy {proxy.line}"


def _value(name: str, environment: Mapping[str, str]) -> str:
    """Return a variable in lower case, in upper case where that one is not set."""
    return environment.get(name, environment.get(name.upper(), "")).strip()


def _read(variable: str, text: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = HTTP_PORT if parts.port is None else parts.port
        host = read_host(parts.hostname or "")
    except (ValueError, ConsortiumError):
        raise _unusable(variable, "is no address of a proxy") from None
    if parts.scheme != "http" or port == 0:
        raise _unusable(variable, f"asks for {parts.scheme}://, and only HTTP proxies are known")
    return Proxy(host, port, variable, *_credentials(parts))


def _credentials(parts: SplitResult) -> Iterator[str]:
    yield unquote(parts.username or "")
    yield unquote(parts.password or "")


def _fits(host: str, port: int, word: str) -> bool:
    word, wanted = _without_port(word.lower())
    if wanted is not None and wanted != port:
        return False
    if word == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _is_within(host, word)
    try:
        network = ipaddress.ip_network(word.strip("[]"), strict=False)
    except ValueError:
        return False
    return address in network


def _is_within(host: str, word: str) -> bool:
    """Say whether a name is a domain's or below it."""
    domain = word.removeprefix("*").removeprefix(".")
    try:
        domain = read_host(domain)
    except ConsortiumError:
        return False
    return host == domain or host.endswith(f".{domain}")


def _without_port(word: str) -> tuple[str, int | None]:
    start, colon, end = word.rpartition(":")
    is_port = colon and end.isdecimal() and (":" not in start or start.endswith("]"))
    return (start, int(end)) if is_port else (word, None)


def _unusable(variable: str, why: str) -> ConsortiumError:
    return ConsortiumError(
        Code.PROXY_INVALID,
        f"What {variable} holds {why}.",
        f"Set {variable} to http://HOST:PORT, with letters such as @ : / # % in a password written "
        "as %40 %3A %2F %23 %25; or leave the server out with no_proxy.",
    )
