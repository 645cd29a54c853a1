"""Preflight: whether this machine can take part, each check with what to do if not."""

from __future__ import annotations

import datetime as dt
import http.client
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from polyclinic_client.consortium.client import ConsortiumClient, Status
from polyclinic_client.folder.layout import SECRETS
from polyclinic_client.folder.membership import Membership, site_certificate, tls_context
from polyclinic_client.proxy import Proxy, proxy_for
from polyclinic_client.records.sqlite_file import require_local
from polyclinic_common.consortium.address import host_port
from polyclinic_common.consortium.invitation import Invitation
from polyclinic_common.errors import Code, ConsortiumError, LedgerError
from polyclinic_common.identity import certificates
from polyclinic_common.modes import exposed, mending
from polyclinic_common.version import VERSION

CLOCK_S = 3.0
DISK_BYTES = 1 << 30
MEMORY_BYTES = 1 << 30
LEAST_DAYS = 14
PATIENCE_S = 5.0
_MEMORY = Path("/proc/meminfo")
_WANTS_CREDENTIALS = "failed: 407"  # http.client's words
_CREDENTIALS = "Set https_proxy to http://USER:PASSWORD@HOST:PORT, as the network's people say."


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
    host, context = membership.host, tls_context(folder)
    checks = _way(host, membership.port)
    uses = ((membership.port, "consortium"), (membership.fleet_port, "runs"))
    ports = [_tls(context, host, port, use) for port, use in uses]
    service = list(_service(folder, reached=all(each.ok for each in ports)))
    checks += [*ports, *service, _certificate(folder), _folder(folder), _disk(folder), _memory()]
    return checks


def preflight_of(invitation: Invitation, folder: Path) -> list[Check]:
    """Look, before joining, at what can be known by then; the invitation is not used up.

    Parameters
    ----------
    folder : Path
        Where the site will be; it need not be there.
    """
    host, port = invitation.host, invitation.port
    context = certificates.trusting_context(invitation.certificate)
    checks = [*_way(host, port), _tls(context, host, port, "enrolment")]
    return [*checks, _validity(invitation), _disk(_first_there(folder)), _memory()]


def _way(host: str, port: int) -> list[Check]:
    """Look at the proxy and at the name that has to be resolved."""
    try:
        proxy = proxy_for(host, port)
    except ConsortiumError as error:
        return [Check("proxy", False, error.what.removesuffix("."), error.remedy)]
    what = "none is set for it: the server is called directly" if proxy is None else proxy.line
    return [Check("proxy", True, what), _resolution(host if proxy is None else proxy.host, proxy)]


def _resolution(name: str, proxy: Proxy | None) -> Check:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return Check(
            "name",
            False,
            f"{name} cannot be resolved",
            "Ask the network's people to let this machine resolve it, or set https_proxy."
            if proxy is None
            else f"Correct {proxy.variable}, or have this machine resolve the proxy's name.",
        )
    return Check("name", True, f"{name} is {found[0][4][0]}")


def _tls(context: ssl.SSLContext, host: str, port: int, use: str) -> Check:
    """Reach a port and see that the other end is this consortium's server, nobody in between."""
    name, address = f"port {port}", host_port(host, port)
    try:
        plain = _connect(host, port)
    except ConsortiumError as error:
        return Check(name, False, error.what.removesuffix("."), error.remedy)
    except OSError as error:
        return Check(
            name,
            False,
            f"{address} ({use}) is not reached ({_reason(error)})",
            _CREDENTIALS
            if _WANTS_CREDENTIALS in str(error)
            else f"Open outbound TCP to {address} in the firewall or proxy; ask whether it is up.",
        )
    try:
        with context.wrap_socket(plain, server_hostname=host):
            return Check(name, True, f"{address} ({use}) is this consortium's server")
    except ssl.SSLCertVerificationError:
        return Check(
            name,
            False,
            f"{address} ({use}) shows a certificate of {_issuer(host, port)}",
            "TLS is intercepted, or it is another server: exempt this address from inspection.",
        )
    except OSError as error:
        return Check(
            name,
            False,
            f"{address} ({use}) breaks the TLS handshake ({type(error).__name__})",
            "Exempt this address from inspection in the firewall or proxy.",
        )


def _reason(error: OSError) -> str:
    """Say why nobody answers; what a proxy says of itself is not shown."""
    if _WANTS_CREDENTIALS in str(error):
        return "the proxy asks for credentials"
    return type(error).__name__


def _connect(host: str, port: int) -> socket.socket:
    """Return a connection, through the proxy that the environment names.

    Raises
    ------
    OSError
        If nobody answers, or the proxy does not let it through.
    ConsortiumError
        C033 if the environment names a proxy that cannot be used.
    """
    proxy = proxy_for(host, port)
    if proxy is None:
        return socket.create_connection((host, port), timeout=PATIENCE_S)
    tunnel = http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)
    asked = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
    tunnel.set_tunnel(f"[{host}]" if ":" in host else host, port, headers=asked)
    try:
        tunnel.connect()
    except http.client.HTTPException as error:  # what answers is no proxy
        raise ConnectionError(type(error).__name__) from None
    return tunnel.sock


def _issuer(host: str, port: int) -> str:
    """Say who made the certificate that is shown; it is looked at, not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(_connect(host, port), server_hostname=host) as shown:
            content = shown.getpeercert(binary_form=True) or b""
        return x509.load_der_x509_certificate(content).issuer.rfc4514_string()
    except (OSError, ValueError):
        return "somebody else"


def _validity(invitation: Invitation) -> Check:
    until = f"{invitation.until:%Y-%m-%d %H:%M} UTC"
    if invitation.until > dt.datetime.now(dt.UTC):
        return Check("invitation", True, f"for {invitation.site}, good until {until}")
    return Check(
        "invitation",
        False,
        f"it has expired on {until}, by this machine's clock",
        "Ask the operator for a new one; if the clock is wrong: timedatectl set-ntp true",
    )


def _first_there(folder: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    return next(each for each in (folder, *folder.absolute().parents) if each.is_dir())


def _service(folder: Path, *, reached: bool) -> Iterator[Check]:
    """Ask the service who we are; compare clock and version with the server's."""
    before = dt.datetime.now(dt.UTC)
    try:
        with ConsortiumClient.open(folder) as client:
            status = client.status()
    except ConsortiumError as error:
        yield Check("service", False, error.what.removesuffix("."), _mend(error, reached=reached))
        return
    now = dt.datetime.now(dt.UTC)
    yield Check("service", True, f"the server knows this hospital as {status.name}")
    yield _clock(before, now, status)
    same = VERSION.split(".")[:2] == status.server_version.split(".")[:2]
    yield Check(
        "version",
        same,
        f"{VERSION} here, {status.server_version} at the server",
        "" if same else "Install the server's version of Polyclinic.",
    )


def _mend(error: ConsortiumError, *, reached: bool) -> str:
    """Return what to do about a service that does not answer: never to look here again."""
    if error.code is not Code.NOT_REACHED:
        return error.remedy
    if reached:
        return "Its port answers, so ask the operator to look into the server's log."
    return "Do first what stands beside proxy, name and port: this follows from it."


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
    days = certificates.days_left(site_certificate(folder), dt.datetime.now(dt.UTC))
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
