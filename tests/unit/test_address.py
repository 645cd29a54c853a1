"""A server's address is checked at the door, and every refusal says what to write instead."""

from __future__ import annotations

import pytest
from cryptography import x509

from polyclinic_common.consortium.address import (
    host_port,
    parted,
    read_host,
    require_reachable,
)
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.identity import certificates
from polyclinic_server.folder import settings_of

READ = {
    "polyclinic.example.org": "polyclinic.example.org",
    "Polyclinic.Example.ORG.": "polyclinic.example.org",
    "klinikum-köln.example.org": "xn--klinikum-kln-ejb.example.org",
    "straße.example": "xn--strae-oqa.example",  # not strasse: IDNA 2008
    "xn--kln-sna.de": "xn--kln-sna.de",
    "Ko\u0308ln.de": "xn--kln-sna.de",
    "localhost ": "localhost",
    "\ufeff\u00a0localhost\u200b": "localhost",
    "server_1": "server_1",
    "127.0.0.1": "127.0.0.1",
    "::1": "::1",
    "[2001:DB8::1]": "2001:db8::1",
}
REFUSED = {
    "": ("empty", "Name"),
    "  ": ("empty", "Name"),
    "https://polyclinic.example.org": ("URL", "alone: polyclinic.example.org"),
    "http://user:pw@example.org:80/path?x": ("URL", "alone: example.org"),
    "example.org/path": ("more than a host", "alone: example.org"),
    "polyclinic.example.org:7640": ("port (7640)", "--first-port"),
    "[::1]:7640": ("port (7640)", "[::1]"),
    "polyclinic example.org": ("blank", "without blanks"),
    "a..example.org": ("empty", "Correct"),
    "*.example.org": ("letters, digits", "Correct"),
    "-a.example.org": ("letters, digits", "Correct"),
    "a" * 64 + ".org": ("64 letters", "Correct"),
    ".".join(["abcdefgh"] * 30): ("269 letters", "shorter"),
    "256.1.1.1": ("no IP address", "Correct"),
    "1.2.3": ("no IP address", "Correct"),
    "fe80::1%eth0": ("one machine only", "all hospitals"),
    "1::2::3": ("no IP address", "Correct"),
    "xn--a": ("not allowed", "Correct"),
}


@pytest.mark.parametrize(("typed", "host"), READ.items())
def test_an_address_is_read_as_people_write_it(typed: str, host: str) -> None:
    assert read_host(typed) == host
    assert read_host(host) == host
    authority, key = (
        certificates.Authority.create("Example"),
        certificates.generate_key().public_key(),
    )
    made = authority.certify_server(key, [host])
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = names.get_values_for_type(x509.DNSName) + [
        str(each) for each in names.get_values_for_type(x509.IPAddress)
    ]
    assert found == [host]
    assert parted(host_port(host, 7640)) == (host, 7640)


@pytest.mark.parametrize(("typed", "words"), REFUSED.items())
def test_what_is_none_is_refused_with_the_reason(typed: str, words: tuple[str, str]) -> None:
    with pytest.raises(ConsortiumError) as caught:
        read_host(typed)
    assert caught.value.code is Code.ADDRESS_INVALID
    assert words[0] in caught.value.what
    assert words[1] in caught.value.remedy


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "224.0.0.1", "ff02::1"])  # noqa: S104
def test_an_address_that_nobody_can_call_is_for_listening_only(host: str) -> None:
    with pytest.raises(ConsortiumError, match="no machine can be called"):
        require_reachable(host)
    if not host.startswith(("224", "ff")):
        assert settings_of("Cons", "localhost", host, 7640).listen == host


@pytest.mark.parametrize("port", [-1, 0, 65534, 65535, 65536])
def test_three_ports_in_a_row_have_to_exist(port: int) -> None:
    with pytest.raises(ConsortiumError, match="first of three ports"):
        settings_of("Cons", "localhost", "127.0.0.1", port)
    assert settings_of("Cons", "localhost", "127.0.0.1", 65533).ports.fleet == 65535


@pytest.mark.parametrize("name", ["", " \u200b", "x" * 201])
def test_a_consortium_has_a_name_that_can_be_read(name: str) -> None:
    with pytest.raises(ConsortiumError, match="cannot have a name"):
        settings_of(name, "localhost", "127.0.0.1", 7640)
    long = "Verbund für Präzisionsmedizin & Herz-Kreislauf-Forschung der Universitätskliniken"
    assert settings_of(f" {long}\n", "localhost", "127.0.0.1", 7640).name == long
