"""Certificates say what they must, and nothing that they must not."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.identity import certificates

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def authority() -> certificates.Authority:
    return certificates.Authority.create("Example consortium")


def test_a_server_is_known_by_its_names_and_addresses(authority: certificates.Authority) -> None:
    made = authority.certify_server(
        certificates.generate_key().public_key(), ["polyclinic.example.org", "192.0.2.7"]
    )
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["polyclinic.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("192.0.2.7")]
    verifier = PolicyBuilder().store(Store([authority.certificate])).build_server_verifier
    assert verifier(x509.DNSName("polyclinic.example.org")).verify(made, [])
    with pytest.raises(VerificationError):
        verifier(x509.DNSName("elsewhere.example.org")).verify(made, [])


LONG = (
    "Universit\u00e4tsklinikum K\u00f6ln, Klinik f\u00fcr Innere Medizin und Herzchirurgie, Haus 40"
)


def test_a_name_longer_than_a_common_name_is_kept_whole() -> None:
    """64 bytes are the certificate's limit, not the hospital's."""
    long = certificates.Authority.create(LONG * 2)
    assert certificates.common_name(long.certificate) == LONG * 2
    key = certificates.generate_key()
    made = long.certify_site(certificates.read_request(certificates.make_request(key, LONG)), LONG)
    made.verify_directly_issued_by(long.certificate)
    other = long.certify_site(key.public_key(), LONG + "a")
    shorts = [
        str(each.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        for each in (made, other)
    ]
    assert (certificates.common_name(made), certificates.common_name(other)) == (LONG, LONG + "a")
    assert all(len(short.encode()) <= 64 for short in shorts)
    assert shorts[0] != shorts[1]
    host = ".".join(["a" * 30] * 5)
    server = long.certify_server(key.public_key(), [host])
    verifier = PolicyBuilder().store(Store([long.certificate])).build_server_verifier
    assert verifier(x509.DNSName(host)).verify(server, [])


def test_a_site_is_a_client_under_the_name_the_authority_gave(
    authority: certificates.Authority,
) -> None:
    key = certificates.generate_key()
    asked = certificates.read_request(certificates.make_request(key, "a name of its own choice"))
    made = authority.certify_site(asked, "St. Mary")
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificates.common_name(made) == "St. Mary"
    assert certificates.public_bytes(asked) == certificates.public_bytes(key.public_key())
    assert made.serial_number < 2**63
    assert 363 <= certificates.days_left(made, NOW) <= 365
    made.verify_directly_issued_by(authority.certificate)


def test_a_site_cannot_make_certificates(authority: certificates.Authority) -> None:
    site = certificates.generate_key()
    middle = authority.certify_site(site.public_key(), "St. Mary")
    forged = certificates.Authority(site, middle).certify_site(
        certificates.generate_key().public_key(), "Elsewhere"
    )
    ends = ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, Criticality.AGNOSTIC, None
    )
    verifier = (
        PolicyBuilder()
        .store(Store([authority.certificate]))
        .extension_policies(ee_policy=ends, ca_policy=ExtensionPolicy.webpki_defaults_ca())
        .build_client_verifier()
    )
    assert verifier.verify(middle, [])
    with pytest.raises(VerificationError):
        verifier.verify(forged, [middle])


def test_only_a_p384_request_signed_by_its_own_key_is_read() -> None:
    good = certificates.make_request(certificates.generate_key(), "St. Mary")
    other = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    altered = good[:-1] + bytes([good[-1] ^ 1])
    for content in (b"", altered, other):
        with pytest.raises(ConsortiumError) as caught:
            certificates.read_request(content)
        assert caught.value.code == Code.REQUEST_INVALID


def test_fingerprints_are_compared_however_they_were_typed(
    authority: certificates.Authority,
) -> None:
    shown = certificates.fingerprint(authority.certificate)
    assert len(shown.split()) == 8
    assert certificates.same_fingerprint(shown, shown.upper().replace(" ", ":"))
    assert certificates.same_fingerprint(f" {shown} ", shown.replace(" ", ""))
    changed = ("0" if shown[0] != "0" else "1") + shown[1:]
    assert not certificates.same_fingerprint(shown, changed)
    assert not certificates.same_fingerprint(shown, shown[:-1])
    assert not certificates.same_fingerprint(shown, "")


def test_keys_are_their_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    key = certificates.generate_key()
    certificates.write_private(tmp_path / "tls.key", certificates.key_pem(key))
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600
    assert certificates.read_key(tmp_path / "tls.key").private_numbers() == key.private_numbers()
    with pytest.raises(FileExistsError):
        certificates.write_private(tmp_path / "tls.key", b"")
    (tmp_path / "bad").write_bytes(b"bad")
    for reading in (certificates.read_key, certificates.read_certificate):
        for name in ("bad", "absent"):
            with pytest.raises(ConsortiumError) as caught:
                reading(tmp_path / name)
            assert caught.value.code == Code.CONSORTIUM_FILE


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """Shake hands in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(sides)
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass


def test_contexts_let_in_this_consortium_alone(
    tmp_path: Path, authority: certificates.Authority
) -> None:
    foreign = certificates.Authority.create("Another consortium")
    for name, who in (("ours", authority), ("theirs", foreign)):
        key = certificates.generate_key()
        made = who.certify_site(key.public_key(), "St. Mary")
        (tmp_path / f"{name}.key").write_bytes(certificates.key_pem(key))
        (tmp_path / f"{name}.pem").write_bytes(certificates.pem(made))
        (tmp_path / f"{name}-ca.pem").write_bytes(certificates.pem(who.certificate))
    key = certificates.generate_key()
    (tmp_path / "server.key").write_bytes(certificates.key_pem(key))
    made = authority.certify_server(key.public_key(), ["server.example.org"])
    (tmp_path / "server.pem").write_bytes(certificates.pem(made))
    server = certificates.server_context(
        tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ours-ca.pem"
    )

    def client(name: str, trusted: str = "ours-ca.pem") -> ssl.SSLContext:
        paths = (tmp_path / f"{name}.pem", tmp_path / f"{name}.key", tmp_path / trusted)
        return certificates.client_context(*paths)

    handshake(server, client("ours"), "server.example.org")
    refused = (
        (client("ours"), "elsewhere.example.org"),
        (client("ours", "theirs-ca.pem"), "server.example.org"),
        (client("theirs", "ours-ca.pem"), "server.example.org"),
    )
    for context, host in refused:
        with pytest.raises(ssl.SSLError):
            handshake(server, context, host)
