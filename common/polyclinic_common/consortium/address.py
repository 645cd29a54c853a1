"""Where a server is: a host as people write it, in the one form that certificates and calls take.

The layers below have limits of their own, and say so late and badly: a certificate holds DNS names
in ASCII without blanks, gRPC wants brackets round IPv6, and none of them knows what a URL is. They
are checked here, at the door.
"""

from __future__ import annotations

import ipaddress
import re

import idna

from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.text import tidy

LONGEST_HOST = 253  # letters of a DNS name (RFC 1035)
LARGEST_PORT = 65535
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"(?P<host>[^:\[\]]+|\[[^\[\]]*\]):(?P<port>\d*)")


def read_host(text: str) -> str:
    """Return a DNS name (lower case, IDNA) or IP address as calls and certificates take it.

    Raises
    ------
    ConsortiumError
        C031 with the reason: a URL, a port, blanks, or letters and lengths that DNS does not know.
    """
    host = tidy(text)
    _refuse_more_than_a_host(text, host)
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if ":" in host or host.replace(".", "").isdecimal():
        return _read_address(text, host)
    return _read_name(text, host)


def require_reachable(host: str) -> str:
    """Refuse an address that nobody can call: one that stands for all of a machine, or for many.

    Raises
    ------
    ConsortiumError
        C031.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified or address.is_multicast:
        raise unusable_address(
            host, "no machine can be called by it", "Name the address that hospitals call."
        )
    return host


def host_port(host: str, port: int) -> str:
    """Return host and port as one word; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parted(address: str) -> tuple[str, int]:
    """Return host and port of what `host_port` made."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def unusable_address(text: str, why: str, remedy: str) -> ConsortiumError:
    """Return the error for an address that cannot be used."""
    return ConsortiumError(
        Code.ADDRESS_INVALID, f"{text!r} cannot be the address of a server: {why}.", remedy
    )


def _refuse_more_than_a_host(text: str, host: str) -> None:
    """Say what of a text is no host, and what would be left of it."""
    if not host:
        raise unusable_address(text, "it is empty", "Name a DNS name or an IP address.")
    scheme, found, rest = host.partition("://")
    if found or "/" in host or "@" in host:
        alone = (rest if found else host).partition("/")[0].rpartition("@")[2]
        alone = _without_port(alone)[0]
        remedy = f"Write the host alone: {alone}" if alone else "Write the host alone."
        why = f"it is a URL ({scheme}://)" if found else "it is more than a host"
        raise unusable_address(text, why, remedy)
    alone, port = _without_port(host)
    if port is not None:
        raise unusable_address(
            text,
            f"it holds a port ({port})",
            f"Write the host alone: {alone}. Ports are settings of their own (--first-port).",
        )
    if any(letter.isspace() for letter in host):
        raise unusable_address(text, "there is a blank in it", "Name one host, without blanks.")


def _without_port(host: str) -> tuple[str, str | None]:
    """Part a host from a port behind it; an IPv6 address without brackets has none."""
    found = _PORT.fullmatch(host)
    return (found["host"], found["port"]) if found is not None else (host, None)


def _read_address(text: str, host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise unusable_address(
            text, "it is no IP address", "Correct it, or name the server by its DNS name."
        ) from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise unusable_address(
            text,
            "the part behind % holds on one machine only",
            "Name an address that means the same to all hospitals.",
        )
    return str(address)


def _read_name(text: str, host: str) -> str:
    try:
        name = ".".join(_read_label(label) for label in host.rstrip(".").lower().split("."))
    except ValueError as error:  # idna's errors are ones
        raise unusable_address(
            text, str(error).rstrip("."), "Correct it, or name the server by its IP address."
        ) from None
    if len(name) > LONGEST_HOST:
        raise unusable_address(
            text,
            f"it has {len(name)} letters where DNS knows {LONGEST_HOST}",
            "Name a shorter one.",
        )
    return name


def _read_label(label: str) -> str:
    """Return one part of a DNS name in ASCII."""
    if label.isascii() and not label.startswith("xn--"):
        if not label:
            raise ValueError("a part of it is empty")
        if len(label) > 63:
            raise ValueError(f"a part of it has {len(label)} letters where DNS knows 63")
        if _LABEL.fullmatch(label) is None:
            raise ValueError("DNS names hold letters, digits, hyphens and dots only")
        return label
    return idna.encode(label, uts46=True).decode("ascii")
