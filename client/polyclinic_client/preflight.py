"""Preflight: whether this machine can take part, each check with what to do if not."""

from __future__ import annotations

import datetime as dt
import http.client
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from cryptography import x509

from polyclinic_client.consortium.client import ConsortiumClient, Status
from polyclinic_client.consortium.membership import Membership, site_certificate, tls_context
from polyclinic_client.site_files import SECRETS
from polyclinic_client.sqlite_file import require_local
from polyclinic_common import pki
from polyclinic_common.errors import ConsortiumError, LedgerError
from polyclinic_common.modes import exposed, mending

CLOCK_S = 3.0
DISK_BYTES = 1 << 30
MEMORY_BYTES = 1 << 30
LEAST_DAYS = 14
PATIENCE_S = 5.0
_MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    name : str
        What was looked at.
    ok : bool
        Whether it is as it must be.
    what : str
        What was found.
    remedy : str
        What to do; empty if it is as it must be.
    """

    name: str
    ok: bool
    what: str
    remedy: str = ""


def preflight(folder: Path) -> list[Check]:
    """Look at network, clock, disk, memory, certificate, version and who may read the folder.

    Raises
    ------
    ConsortiumError
        C025 if the site has not joined, C003 if a file cannot be used.
    """
    membership = Membership.read(folder)
    checks = [_proxy(membership.host), _resolution(membership.host)]
    checks += [
        _tls(folder, membership.host, port, use)
        for port, use in ((membership.port, "consortium"), (membership.fleet_port, "runs"))
    ]
    checks += _service(folder)
    return [*checks, _certificate(folder), _folder(folder), _disk(folder), _memory()]


def proxy_of(host: str) -> tuple[str, int] | None:
    """Return the HTTP proxy that the environment names for a host, if any."""
    proxies = getproxies()
    found = proxies.get("https") or proxies.get("all")
    if not found or proxy_bypass(host):
        return None
    parts = urlsplit(found if "//" in found else f"http://{found}")
    return str(parts.hostname), parts.port or 8080


def _proxy(host: str) -> Check:
    proxy = proxy_of(host)
    if proxy is None:
        return Check("proxy", True, "none is set: the server is called directly")
    return Check("proxy", True, f"{proxy[0]}:{proxy[1]}, as https_proxy says")


def _resolution(host: str) -> Check:
    proxy = proxy_of(host)
    name = host if proxy is None else proxy[0]
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return Check(
            "name",
            False,
            f"{name} cannot be resolved",
            "Ask the network's people to let this machine resolve it, or set https_proxy.",
        )
    return Check("name", True, f"{name} is {found[0][4][0]}")


def _tls(folder: Path, host: str, port: int, use: str) -> Check:
    """Reach a port and see that the other end is this consortium's server, nobody in between."""
    name = f"port {port}"
    try:
        plain = _connect(host, port)
    except (OSError, http.client.HTTPException) as error:
        return Check(
            name,
            False,
            f"{host}:{port} ({use}) is not reached ({type(error).__name__})",
            f"Open outbound TCP to {host}:{port} in the firewall or proxy; ask whether it is up.",
        )
    try:
        with tls_context(folder).wrap_socket(plain, server_hostname=host):
            return Check(name, True, f"{host}:{port} ({use}) is this consortium's server")
    except ssl.SSLCertVerificationError:
        return Check(
            name,
            False,
            f"{host}:{port} ({use}) shows a certificate of {_issuer(host, port)}",
            "TLS is intercepted, or it is another server: exempt this address from inspection.",
        )
    except OSError as error:
        return Check(
            name,
            False,
            f"{host}:{port} ({use}) breaks the TLS handshake ({type(error).__name__})",
            "Exempt this address from inspection in the firewall or proxy.",
        )


def _connect(host: str, port: int) -> socket.socket:
    proxy = proxy_of(host)
    if proxy is None:
        return socket.create_connection((host, port), timeout=PATIENCE_S)
    tunnel = http.client.HTTPConnection(*proxy, timeout=PATIENCE_S)
    tunnel.set_tunnel(host, port)
    tunnel.connect()
    return tunnel.sock


def _issuer(host: str, port: int) -> str:
    """Say who made the certificate that is shown; it is looked at, not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(_connect(host, port), server_hostname=host) as shown:
            content = shown.getpeercert(binary_form=True) or b""
        return x509.load_der_x509_certificate(content).issuer.rfc4514_string()
    except (OSError, ValueError, http.client.HTTPException):
        return "somebody else"


def _service(folder: Path) -> Iterator[Check]:
    """Ask the service who we are; compare clock and version with the server's."""
    before = dt.datetime.now(dt.UTC)
    try:
        with ConsortiumClient.open(folder) as client:
            status = client.status()
    except ConsortiumError as error:
        yield Check("service", False, error.what, error.remedy)
        return
    now = dt.datetime.now(dt.UTC)
    yield Check("service", True, f"the server knows this hospital as {status.name}")
    yield _clock(before, now, status)
    own = version("polyclinic")
    same = own.split(".")[:2] == status.server_version.split(".")[:2]
    yield Check(
        "version",
        same,
        f"{own} here, {status.server_version} at the server",
        "" if same else "Install the server's version of Polyclinic.",
    )


def _clock(before: dt.datetime, after: dt.datetime, status: Status) -> Check:
    """Compare clocks; what the network took counts for us."""
    ahead = (before - status.server_time).total_seconds()
    behind = (status.server_time - after).total_seconds()
    ok = max(ahead, behind) <= CLOCK_S
    if ok:
        return Check("clock", True, f"within {CLOCK_S:g} s of the server's")
    off, way = (ahead, "ahead of") if ahead > behind else (behind, "behind")
    return Check(
        "clock",
        False,
        f"{off:.0f} s {way} the server's",
        "Let this machine keep time by NTP (timedatectl set-ntp true).",
    )


def _certificate(folder: Path) -> Check:
    days = pki.days_left(site_certificate(folder), dt.datetime.now(dt.UTC))
    ok = days >= LEAST_DAYS
    remedy = "" if ok else "Ask the operator for a new invitation before it ends."
    return Check("certificate", ok, f"{days} days left", remedy)


def _folder(folder: Path) -> Check:
    loose = exposed(folder, SECRETS)
    if not loose:
        return Check("folder", True, "its owner alone may read it")
    names = ", ".join(str(path) for path in loose)
    what = f"others may read or change {names}; the node does not start"
    return Check("folder", False, what, f"See who had access; then run: {mending(loose)}")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    try:
        require_local(folder)
    except LedgerError as error:
        return Check("disk", False, error.what, error.remedy)
    ok = free >= DISK_BYTES
    remedy = "" if ok else "Free at least 1 GiB on that disk."
    return Check("disk", ok, f"{free / 2**30:.1f} GiB free, a local disk", remedy)


def _memory() -> Check:
    lines = _MEMORY.read_text(encoding="ascii").splitlines()
    found = dict(line.split(":") for line in lines)
    free = int(found["MemAvailable"].split()[0]) * 1024
    ok = free >= MEMORY_BYTES
    remedy = "" if ok else "Leave at least 1 GiB to Polyclinic: a working node takes 600 MB."
    return Check("memory", ok, f"{free / 2**30:.1f} GiB available", remedy)
