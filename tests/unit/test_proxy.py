"""One reading of the proxy settings; the variables are those that people and packages set."""

from __future__ import annotations

import base64

import pytest

from polyclinic_client.proxy import is_left_out, proxy_for
from polyclinic_common.errors import Code, ConsortiumError

HOST, PORT = "polyclinic.example.org", 7641
NAMED = {
    "lower case": ({"https_proxy": "http://p:3128"}, "p:3128"),
    "upper case alone": ({"HTTPS_PROXY": "http://p:3128"}, "p:3128"),
    "lower case first": ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "p:1"),
    "no scheme": ({"https_proxy": "p:3128"}, "p:3128"),
    "a slash behind it": ({"https_proxy": "http://p:3128/"}, "p:3128"),
    "all_proxy alone": ({"all_proxy": "http://p:3128"}, "p:3128"),
    "ALL_PROXY alone": ({"ALL_PROXY": "p:3128"}, "p:3128"),
    "http_proxy alone": ({"http_proxy": "http://p:3128"}, "p:3128"),
    "https_proxy first": ({"http_proxy": "h:1", "all_proxy": "a:2", "https_proxy": "s:3"}, "s:3"),
    "no port": ({"https_proxy": "http://p"}, "p:80"),
    "IPv6": ({"https_proxy": "http://[2001:db8::1]:3128"}, "[2001:db8::1]:3128"),
    "IPv6 without a scheme": ({"https_proxy": "[::1]:3128"}, "[::1]:3128"),
    "blanks around it": ({"https_proxy": " http://p:3128\n"}, "p:3128"),
    "a capital scheme": ({"https_proxy": "HTTP://P:3128"}, "p:3128"),
    "empty": ({"https_proxy": ""}, None),
    "empty in lower case hides upper case": ({"https_proxy": "", "HTTPS_PROXY": "p:1"}, None),
    "none": ({}, None),
    "all left out": ({"https_proxy": "p:1", "no_proxy": "*"}, None),
    "left out in upper case": ({"https_proxy": "p:1", "NO_PROXY": ".example.org"}, None),
    "another left out": ({"https_proxy": "p:1", "no_proxy": "localhost,127.0.0.1"}, "p:1"),
    "what gRPC alone would read": ({"grpc_proxy": "http://p:3128"}, None),
}


@pytest.mark.parametrize(("environment", "address"), NAMED.values(), ids=NAMED)
def test_a_setting_has_one_meaning(environment: dict[str, str], address: str | None) -> None:
    found = proxy_for(HOST, PORT, environment)
    assert (found.address if found is not None else None) == address
    if found is not None:
        assert found.variable.upper() in {name.upper() for name in environment}


@pytest.mark.parametrize(
    ("setting", "user", "password"),
    [
        ("http://user:pw@p:3128", "user", "pw"),
        ("user:pw@p:3128", "user", "pw"),
        ("http://dom%5Cuser:p%40%3A%2F@p:3128", "dom\\user", "p@:/"),
        ("http://user:p@ss@p:3128", "user", "p@ss"),
        ("http://user@p:3128", "user", ""),
        ("http://user:pässwort@p:3128", "user", "pässwort"),
    ],
)
def test_credentials_are_sent_and_never_shown(setting: str, user: str, password: str) -> None:
    found = proxy_for(HOST, PORT, {"https_proxy": setting})
    assert found is not None
    assert found.authorization == (
        "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    )
    assert found.address == "p:3128"
    for shown in (found.line, repr(found)):
        assert not password or password not in shown
    assert "with credentials" in found.line


@pytest.mark.parametrize(
    "setting",
    [
        "https://p:3128",
        "socks5://p:1080",
        "http://p:port",
        "http://p:0",
        "http://",
        "p q:1",
        "://p",
    ],
)
def test_what_is_no_http_proxy_is_refused_without_its_credentials(setting: str) -> None:
    typed = setting.replace("//", "//someone:secret@", 1)
    with pytest.raises(ConsortiumError) as caught:
        proxy_for(HOST, PORT, {"all_proxy": typed})
    assert caught.value.code is Code.PROXY_INVALID
    assert "all_proxy" in caught.value.what
    assert "secret" not in str(caught.value) + caught.value.remedy
    assert proxy_for(HOST, PORT, {"all_proxy": typed, "https_proxy": "p:3128"}) is not None


LEFT_OUT = {
    "*": True,
    "polyclinic.example.org": True,
    "POLYCLINIC.example.ORG": True,
    "example.org": True,
    ".example.org": True,
    "*.example.org": True,
    "a, example.org ,b": True,
    "a example.org": True,
    "example.org:7641": True,
    "example.org:443": False,
    "xample.org": False,  # no suffix of letters, as gRPC takes it
    "example.com": False,
    "": False,
    ",": False,
}


@pytest.mark.parametrize(("words", "left_out"), LEFT_OUT.items())
def test_no_proxy_leaves_out_hosts_and_what_is_below_domains(words: str, left_out: bool) -> None:
    assert is_left_out(HOST, PORT, words) is left_out


@pytest.mark.parametrize(
    ("host", "words", "left_out"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:7641", True),
        ("10.1.2.3", "11.0.0.0/8", False),
        ("10.1.2.3", "2.3", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "[2001:db8::1]:7641", True),
        ("2001:db8::1", "[2001:db8::1]:1", False),
        ("xn--kln-sna.de", "köln.de", True),
    ],
)
def test_no_proxy_knows_networks_and_names_with_umlauts(
    host: str, words: str, left_out: bool
) -> None:
    assert is_left_out(host, PORT, words) is left_out
