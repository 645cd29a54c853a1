"""An invitation: one line of text that lets one hospital join, once, until it expires.

It carries the authority's certificate itself, so that nobody is trusted on first contact: the
first connection is already checked against it.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from polyclinic_common import pki
from polyclinic_common.errors import Code, ConsortiumError, MessageError
from polyclinic_common.packing import pack, unpack

PREFIX = "polyclinic-"
_CHECK_BYTES = 4


@dataclass(frozen=True)
class Invitation:
    """What an operator hands to a hospital.

    Attributes
    ----------
    host, port
        Where the enrolment service listens.
    site : str
        The hospital's name in the consortium.
    id : bytes
        Sixteen bytes that name the invitation.
    secret : bytes
        Thirty-two bytes; the server keeps their hash only.
    expires : int
        Unix time in seconds.
    authority : bytes
        The authority's certificate (DER).
    """

    host: str
    port: int
    site: str
    id: bytes
    secret: bytes
    expires: int
    authority: bytes

    @staticmethod
    def create(
        host: str, port: int, site: str, expires: int, authority: x509.Certificate
    ) -> Invitation:
        """Return a new invitation with fresh secrets."""
        content = authority.public_bytes(Encoding.DER)
        return Invitation(
            host, port, site, secrets.token_bytes(16), secrets.token_bytes(32), expires, content
        )

    @property
    def secret_hash(self) -> bytes:
        """What the server keeps of the secret."""
        return hash_secret(self.secret)

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's certificate."""
        return x509.load_der_x509_certificate(self.authority)

    @property
    def fingerprint(self) -> str:
        """The authority's fingerprint, to be compared by telephone."""
        return pki.fingerprint(self.certificate)

    @property
    def until(self) -> dt.datetime:
        """When it expires."""
        return dt.datetime.fromtimestamp(self.expires, dt.UTC)

    def text(self) -> str:
        """Return the line of text."""
        fields = (self.host, self.port, self.site, self.id, self.secret)
        content = pack([*fields, self.expires, self.authority])
        return PREFIX + base64.urlsafe_b64encode(_check(content) + content).decode().rstrip("=")


def hash_secret(secret: bytes) -> bytes:
    """Return what a server keeps of an invitation's secret."""
    return hashlib.sha256(b"polyclinic invitation" + secret).digest()


def read_invitation(text: str) -> Invitation:
    """Return the invitation in a line of text.

    Raises
    ------
    ConsortiumError
        C005 if it is cut off or altered.
    """
    line = "".join(text.split())
    if not line.startswith(PREFIX):
        raise _unreadable()
    try:
        body = line.removeprefix(PREFIX)
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        check, content = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if check != _check(content):
            raise _unreadable()
        parts = unpack(content)
    except (ValueError, MessageError):
        raise _unreadable() from None
    match parts:
        case (
            str() as host,
            int() as port,
            str() as site,
            bytes() as name,
            bytes() as secret,
            int() as expires,
            bytes() as authority,
        ):
            return _whole(Invitation(host, port, site, name, secret, expires, authority))
    raise _unreadable()


def _whole(invitation: Invitation) -> Invitation:
    try:
        x509.load_der_x509_certificate(invitation.authority)
    except ValueError:
        raise _unreadable() from None
    return invitation


def _check(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_CHECK_BYTES]


def _unreadable() -> ConsortiumError:
    return ConsortiumError(
        Code.INVITATION_UNREADABLE,
        "The invitation is cut off or altered.",
        f"Copy the whole line that begins with {PREFIX}, or ask the operator for a new one.",
    )
