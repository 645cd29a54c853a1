"""Who is at the other end, as limits count it: an address, and the network around it."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

SINGLE = {4: 32, 6: 64}  # bits: one machine can take any IPv6 address of its /64
NEARBY = {4: 24, 6: 48}


def caller_of(host: str) -> str:
    """Return what one caller is known by: its IPv4 address, or the /64 of its IPv6 address."""
    return _prefix(host, SINGLE)


def network_of(host: str) -> str:
    """Return the network of a caller: its /24, or the /48 of its IPv6 address."""
    return _prefix(host, NEARBY)


def _prefix(host: str, bits: dict[int, int]) -> str:
    """Return the start of an address; what is no IP address stands for itself."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ip_network((address, bits[address.version]), strict=False))
