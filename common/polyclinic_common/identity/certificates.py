"""Certificates of a consortium: one authority, one server, one certificate a hospital.

All keys are EC P-384. The authority's key is needed only while certificates are made; it may lie
elsewhere the rest of the time. A hospital's private key never leaves it: what travels is a signing
request (PKCS #10). The same key is its TLS key and its Flower node key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from polyclinic_common.errors import Code, ConsortiumError

Key = ec.EllipticCurvePrivateKey
Certificate = x509.Certificate
AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
SITE_DAYS = 365
_SLACK = dt.timedelta(minutes=10)  # for clocks that are behind the authority's
_SERIAL_BITS = 63
_MODE = 0o600
_LONGEST_COMMON_NAME = 64  # bytes (X.520, ub-common-name, as `cryptography` counts)
_DIGITS = 16
_WHOLE_NAME = x509.ObjectIdentifier("2.5.4.13")  # description: up to 1024 letters


def generate_key() -> Key:
    """Return a new P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def key_pem(key: Key) -> bytes:
    """Return a private key as PKCS #8 PEM, for its owner's own disk."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as DER (SubjectPublicKeyInfo): what two keys are compared by."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_bytes_of(certificate: x509.Certificate) -> bytes:
    """Return the public key of a certificate as DER."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read, whole or not at all.

    Raises
    ------
    FileExistsError
        If there is such a file: a key is never overwritten.
    """
    if path.exists():
        raise FileExistsError(path)
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def read_key(path: Path) -> Key:
    """Return the P-384 key in a PEM file.

    Raises
    ------
    ConsortiumError
        C003 if there is none.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise _unreadable(path, "private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unreadable(path, "P-384 private key")
    return key


def read_certificate(path: Path) -> x509.Certificate:
    """Return the certificate in a PEM file.

    Raises
    ------
    ConsortiumError
        C003 if there is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise _unreadable(path, "certificate") from None


def fingerprint(certificate: x509.Certificate) -> str:
    """Return what people compare by telephone: half a SHA-256, eight groups of four digits."""
    digits = certificate.fingerprint(hashes.SHA256()).hex()[:32]
    return " ".join(digits[start : start + 4] for start in range(0, 32, 4))


def same_fingerprint(one: str, other: str) -> bool:
    """Say whether two fingerprints are the same digits, however they were typed."""
    plain = ["".join(text.split()).replace(":", "").lower() for text in (one, other)]
    return plain[0] == plain[1]


def common_name(certificate: x509.Certificate) -> str:
    """Return the whole name that a certificate was made out to."""
    (short,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    whole = certificate.subject.get_attributes_for_oid(_WHOLE_NAME)
    return str(whole[0].value if whole else short.value)


def days_left(certificate: x509.Certificate, now: dt.datetime) -> int:
    """Return whole days until a certificate ends; negative once it has ended."""
    return (certificate.not_valid_after_utc - now).days


def make_request(key: Key, name: str) -> bytes:
    """Return a site's signing request as DER: its public key and name, signed by its key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_named(name))
    return request.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)


def read_request(content: bytes) -> ec.EllipticCurvePublicKey:
    """Return the P-384 key of a signing request, which its sender was shown to hold.

    Raises
    ------
    ConsortiumError
        C022 if it is none.
    """
    try:
        request = x509.load_der_x509_csr(content)
        key = request.public_key()
        sound = request.is_signature_valid
    except (ValueError, InvalidSignature):
        raise _bad_request() from None
    if not (sound and isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1"):
        raise _bad_request()
    return key


@dataclass(frozen=True)
class Authority:
    """The authority of one consortium: its key signs the certificates of server and sites.

    Attributes
    ----------
    key : Key
        Its private key.
    certificate : Certificate
        Self-signed; hospitals trust what it signs and nothing else.
    """

    key: Key
    certificate: x509.Certificate

    @staticmethod
    def create(name: str) -> Authority:
        """Make the authority of a consortium of that name."""
        key = generate_key()
        builder = _builder(_named(name), _named(name), key.public_key(), AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_usage(sign_certificates=True), True)
        named = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(named, False)
        return Authority(key, builder.sign(key, hashes.SHA384()))

    def certify_server(
        self, key: ec.EllipticCurvePublicKey, hosts: Sequence[str]
    ) -> x509.Certificate:
        """Return a server's certificate for these DNS names and IP addresses."""
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        return self._certify(
            _named(hosts[0]), key, ExtendedKeyUsageOID.SERVER_AUTH, SERVER_DAYS, names
        )

    def certify_site(
        self, key: ec.EllipticCurvePublicKey, name: str, days: int = SITE_DAYS
    ) -> x509.Certificate:
        """Return a site's certificate: the name is the authority's choice, not the request's."""
        return self._certify(_named(name), key, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def _certify(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        purpose: x509.ObjectIdentifier,
        days: int,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        builder = _builder(subject, self.certificate.subject, key, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_usage(sign_certificates=False), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, False)
        if names is not None:
            builder = builder.add_extension(names, False)
        return builder.sign(self.key, hashes.SHA384())


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """Return TLS 1.3 (1.2 at least) that wants a certificate of `authority` from everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.num_tickets = 0  # every connection shows its certificate
    context.verify_mode = ssl.CERT_REQUIRED
    return _strict(context, certificate, key, authority)


def client_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """Return TLS 1.3 (1.2 at least) that trusts `authority` alone and shows a certificate."""
    return _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key, authority)


def trusting_context(authority: x509.Certificate) -> ssl.SSLContext:
    """Return TLS 1.3 (1.2 at least) that trusts `authority` alone and shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=pem(authority).decode("ascii"))
    return context


def _strict(
    context: ssl.SSLContext, certificate: Path, key: Path, authority: Path
) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(authority)
    context.load_cert_chain(certificate, key)
    return context


def key_hash(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the SHA-256 of a public key's DER: what an identity vouches for when it joins."""
    return hashlib.sha256(public_bytes(key)).digest()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(secrets.randbits(_SERIAL_BITS) | 1)
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    """Return a subject; one too long for a common name stands whole in the attribute beside it."""
    whole = name.encode()
    if len(whole) <= _LONGEST_COMMON_NAME:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    digest = hashlib.sha256(whole).hexdigest()[:_DIGITS]
    start = whole[: _LONGEST_COMMON_NAME - _DIGITS - 1].decode(errors="ignore").rstrip()
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{start}~{digest}"),
            x509.NameAttribute(_WHOLE_NAME, name),
        ]
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _unreadable(path: Path, what: str) -> ConsortiumError:
    return ConsortiumError(
        Code.CONSORTIUM_FILE,
        f"{path} does not hold a {what}, or cannot be read.",
        "Check the path and its permissions, or put the file back from a copy.",
    )


def _bad_request() -> ConsortiumError:
    return ConsortiumError(
        Code.REQUEST_INVALID,
        "A signing request was refused: it is not signed by a P-384 key of its own.",
        "Use the same version of Polyclinic at both ends.",
    )
