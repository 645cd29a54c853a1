"""An invitation: one line of text that lets one hospital join, once, until it expires.

It carries the authority's certificate itself, so that nobody is trusted on first contact: the
first connection is already checked against it.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import html
import quopri
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from polyclinic_common.errors import Code, ConsortiumError, MessageError
from polyclinic_common.identity import certificates
from polyclinic_common.packing import pack, unpack
from polyclinic_common.text import is_hidden

PREFIX = "polyclinic-"
LONGEST_TEXT = 16_384  # letters, with all that stands between them
_CHECK_BYTES = 4
_HEAD = b"l" + (7).to_bytes(8, "big") + b"t"  # seven parts, the first a text: see `packing`
_SHORT = 32  # letters that show the head
_BEGINNING = re.compile(re.escape(PREFIX), re.IGNORECASE)
_LETTERS = re.compile(r"[A-Za-z0-9_-]+")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(\s[^<>]*)?/?>")
_HYPHENS = {ord(mark): "-" for mark in "\u2010\u2011\u2012\u2013\u2212"} | {0x2014: "--"}


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
        return certificates.fingerprint(self.certificate)

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
    """Return the invitation in a text, whatever mail programs and editors made of its line.

    Line breaks, blanks of every kind, marks of quotation, brackets and words around it do no harm:
    its check says where it ends.

    Raises
    ------
    ConsortiumError
        C005 if there is none, or it is cut off or altered.
    """
    read = [text, html.unescape(_TAG.sub(" ", text)), _unquoted(text)]
    starts = [found for each in read for found in _starts(each)]
    for following in starts:
        whole = _whole_in(following)
        if whole is not None:
            return whole
    raise _unreadable() if starts else _none()


def holds_invitation(text: str) -> bool:
    """Say whether an invitation begins in a text."""
    return any(_starts(text))


def _starts(text: str) -> Iterator[str]:
    """Give what follows each beginning of an invitation."""
    seen = "".join(letter for letter in text if not is_hidden(letter)).translate(_HYPHENS)
    for found in _BEGINNING.finditer(seen):
        yield seen[found.end() : found.end() + LONGEST_TEXT]


def _whole_in(text: str) -> Invitation | None:
    """Return the invitation whose letters begin a text: the first words that fit its check."""
    body = ""
    for found in _LETTERS.finditer(text):
        body += found[0]
        if len(body) >= _SHORT and not _is_one(body[:_SHORT]):
            return None
        whole = _read(body) or _read(body.rstrip("_-"))  # marks of emphasis behind it
        if whole is not None:
            return whole
    return None


def _is_one(start: str) -> bool:
    """Say whether an invitation begins with these letters; what they say is not checked yet."""
    return base64.urlsafe_b64decode(start)[_CHECK_BYTES:].startswith(_HEAD)


def _read(body: str) -> Invitation | None:
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        check, content = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if check != _check(content):
            return None
        parts = unpack(content)
    except (ValueError, MessageError):
        return None
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
            return _certified(Invitation(host, port, site, name, secret, expires, authority))
    return None


def _certified(invitation: Invitation) -> Invitation | None:
    try:
        x509.load_der_x509_certificate(invitation.authority)
    except ValueError:
        return None
    return invitation


def _unquoted(text: str) -> str:
    """Return a text with quoted-printable undone: mail writes `=` at a break, `=2D` for `-`."""
    return quopri.decodestring(text.encode()).decode(errors="replace")


def _check(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_CHECK_BYTES]


def _unreadable() -> ConsortiumError:
    return ConsortiumError(
        Code.INVITATION_UNREADABLE,
        "The invitation is cut off or altered.",
        f"Copy all that begins with {PREFIX}, or ask the operator to send it again as a file.",
    )


def _none() -> ConsortiumError:
    return ConsortiumError(
        Code.INVITATION_UNREADABLE,
        f"There is no invitation in this text: nothing begins with {PREFIX}.",
        "Name the file that holds it, or copy it whole; ask the operator if there is none.",
    )
