"""Names, proxies, long lists and interrupted joining, over real gRPC and TLS on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from polyclinic_client.cli.main import app
from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.join import join
from polyclinic_client.consortium.participation import find_study
from polyclinic_client.consortium.preflight import preflight, preflight_of
from polyclinic_client.folder.layout import IDENTITY, LEDGER
from polyclinic_client.folder.membership import MEMBERSHIP, TLS_KEY, Membership, tls_context
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.node.fleet import Fleet, UnreachableError
from polyclinic_client.proxy import proxy_for
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.consortium.transport import LARGEST_STUDY
from polyclinic_common.errors import Code, ConsortiumError, PolyclinicError
from polyclinic_common.identity import certificates
from polyclinic_common.study.manifest import Study
from polyclinic_server.consortium.invite import invite_site
from polyclinic_server.consortium.publish import close_study, participants, publish_study
from polyclinic_server.folder import ServerFolder, settings_of
from polyclinic_server.service.serve import serve_consortium
from tests.kits.connect_proxy import Proxy
from tests.kits.loopback import Loopback
from tests.kits.small import small_study
from tests.kits.typed_consortium import free_ports

VARIABLES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy")
NAMES = (
    "Universitätsklinikum Köln",
    "St. Mary's Hospital",
    "Johnson & Johnson: Herz/Lunge (Nord)",
    "Ä" * 80,
)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """Return a consortium without hospitals, and an environment without proxies."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Loopback(tmp_path)
    yield made
    made.stop()


def code_of(call: Any, *arguments: Any, **more: Any) -> Code:
    with pytest.raises(PolyclinicError) as caught:
        call(*arguments, **more)
    return caught.value.code


def titled(number: int, letters: int = 10) -> Study:
    study = small_study(sites=3)
    return study.model_copy(update={"version": f"0.{number}.0", "title": "x" * letters})


@pytest.mark.parametrize("name", NAMES)
def test_a_hospital_joins_under_the_name_that_people_write(empty: Loopback, name: str) -> None:
    empty.join(name)
    with empty.client(name) as client:
        assert client.status().name == name
        assert [peer.name for peer in client.peers()] == [name]


def test_names_that_look_the_same_are_one_hospital(empty: Loopback) -> None:
    empty.invite("St. Mary's Hospital")
    for twin in ("St. Mary\u2019s Hospital", "ST. MARY'S  HOSPITAL"):
        assert code_of(empty.invite, twin) is Code.SITE_STATE
    assert empty.invite(" St. Mary's\u00a0Hospital\n").site == "St. Mary's Hospital"
    study = small_study(sites=3)
    sites = ("St. Mary\u2019s Hospital", *study.roster.sites[1:])
    roster = study.roster.model_copy(update={"sites": sites})
    with pytest.raises(ConsortiumError, match="was invited as"):
        publish_study(empty.server, study.model_copy(update={"roster": roster}))


def test_a_server_is_called_by_its_ipv6_address(tmp_path: Path) -> None:
    folder = ServerFolder.create(
        tmp_path / "server", settings_of("Sechs", "[::1]", "::1", free_ports())
    )
    handle = serve_consortium(folder)
    try:
        invitation = invite_site(folder, "site", 1)
        join(tmp_path / "site", invitation, accounts=tmp_path / "accounts.sqlite")
        with ConsortiumClient.open(tmp_path / "site") as client:
            assert client.status().consortium == "Sechs"
        found = {check.name: check for check in preflight(tmp_path / "site")}
        assert found[f"port {folder.settings.ports.consortium}"].ok
        assert found["service"].ok
    finally:
        handle.stop()


SETTINGS = {
    "https_proxy": "{url}",
    "HTTPS_PROXY": "{url}",
    "https_proxy without a scheme": "{address}",
    "all_proxy": "{url}",
    "http_proxy": "{url}",
    "https_proxy with credentials": "http://user:p%40w@{address}",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_way_to_name_a_proxy_is_taken_by_all(
    empty: Loopback, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    proxy = Proxy()
    proxy.start()
    address = proxy.url.removeprefix("http://")
    value = SETTINGS[setting].format(url=proxy.url, address=address)
    monkeypatch.setenv(setting.partition(" ")[0], value)
    monkeypatch.setenv("no_grpc_proxy", "localhost")  # gRPC's own words do not count
    invitation = empty.invite("site 0")
    checks = preflight_of(invitation, empty.path("site 0"))
    join(empty.path("site 0"), invitation, accounts=empty.accounts("site 0"))
    ports = empty.server.settings.ports
    assert proxy.connected.count(f"localhost:{ports.enrolment}") == 2
    checks += preflight(empty.path("site 0"))
    failed = {check.name for check in checks if not check.ok}
    assert failed <= {f"port {ports.fleet}", "disk", "memory"}  # the runs' port is not served
    assert proxy.connected.count(f"localhost:{ports.consortium}") == 2
    shown = [check.what for check in checks if check.name == "proxy"]
    assert all(address in what and "p%40w" not in what and "p@w" not in what for what in shown)
    _call_as_a_node(empty.path("site 0"))
    assert f"localhost:{ports.fleet}" in proxy.connected
    sent = b"proxy-authorization: basic dxnlcjpwqhc="  # user:p@w, by whoever connects
    assert {sent in head.lower() for head in proxy.heads} == {"credentials" in setting}
    monkeypatch.setenv("no_proxy", "localhost")
    before = len(proxy.connected)
    with empty.client("site 0") as client:
        assert client.status().name == "site 0"
    assert len(proxy.connected) == before
    proxy.listener.close()


def _call_as_a_node(folder: Path) -> None:
    """Try to reach the runs' port, which is not served here, as a node does."""
    member = Membership.read(folder)
    proxy = proxy_for(member.host, member.fleet_port)
    key = certificates.read_key(folder / TLS_KEY)
    fleet = Fleet(f"{member.host}:{member.fleet_port}", tls_context(folder), key, proxy)
    with pytest.raises(UnreachableError):
        fleet.activate()
    fleet.close()


def test_preflight_before_joining_uses_nothing_up_and_names_what_is_wrong(empty: Loopback) -> None:
    invitation = empty.invite("site 0")
    checks = {each.name: each for each in preflight_of(invitation, empty.path("site 0"))}
    assert checks[f"port {invitation.port}"].ok
    assert checks["invitation"].ok
    assert not empty.path("site 0").exists()
    empty.handle.stop()
    checks = {each.name: each for each in preflight_of(invitation, empty.path("site 0"))}
    assert not checks[f"port {invitation.port}"].ok
    with pytest.raises(ConsortiumError) as caught:
        join(empty.path("site 0"), invitation, accounts=empty.accounts("site 0"))
    assert caught.value.code is Code.NOT_REACHED
    assert "preflight INVITATION" in caught.value.remedy
    empty.handle = serve_consortium(empty.server)
    member = join(empty.path("site 0"), invitation, accounts=empty.accounts("site 0"))
    remedies = [check.remedy for check in _unreached(empty)]
    assert member.name == "site 0"
    assert remedies
    assert not any("preflight" in remedy for remedy in remedies)


def _unreached(empty: Loopback) -> list[Any]:
    empty.handle.stop()
    failed = [check for check in preflight(empty.path("site 0")) if not check.ok]
    empty.handle = serve_consortium(empty.server)
    return failed


@pytest.mark.parametrize("cap", [0.0, float("nan"), float("inf"), -1.0])
def test_a_refused_limit_leaves_nothing_that_passes_for_a_site(empty: Loopback, cap: float) -> None:
    invitation, path = empty.invite("site 0"), empty.path("site 0")
    accounts = empty.accounts("site 0")
    assert code_of(join, path, invitation, accounts=accounts, epsilon_cap=cap) is (
        Code.PRIVACY_PARAMETER
    )
    assert not (path / IDENTITY).exists()
    join(path, invitation, accounts=accounts, epsilon_cap=2.5)
    with SiteFolder.open(path) as site:
        assert site.ledger.state.epsilon_cap == 2.5


STEPS = (
    (SiteFolder, "create"),
    ("polyclinic_client.folder.site_folder", "finish"),
    ("polyclinic_client.accounts.account", "entry_of"),
    ("polyclinic_client.accounts.account", "keep_place"),
    ("polyclinic_common.identity.certificates", "write_private"),
    ("polyclinic_client.consortium.join", "_enrol"),
    ("polyclinic_client.consortium.join", "_write_certificates"),
    ("polyclinic_client.consortium.join", "note_joined"),
    (Membership, "write"),
)


@pytest.mark.parametrize(("place", "step"), STEPS, ids=[step for _, step in STEPS])
def test_joining_is_repeated_after_any_failure_with_the_limits_typed_last(
    empty: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, step: str
) -> None:
    invitation, path = empty.invite("site 0"), empty.path("site 0")
    accounts, witness = empty.accounts("site 0"), tmp_path / "witness"

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(
            f"{place}.{step}" if isinstance(place, str) else place,
            *((broken,) if isinstance(place, str) else (step, broken)),
        )
        with pytest.raises((OSError, PolyclinicError)):
            join(path, invitation, accounts=accounts, delta=1e-4, epsilon_cap=5.0, witness=witness)
    assert not (path / MEMBERSHIP).exists()
    known = step == "write"  # its account is the hospital's by then: delta and witness stay
    typed: dict[str, Any] = {} if known else {"delta": 1e-6, "witness": tmp_path / "other"}
    limits: dict[str, Any] = {"epsilon_cap": 1.5, "fallback_cap": 4.0}
    join(path, invitation, accounts=accounts, **limits, **typed)
    with SiteFolder.open(path) as site, empty.client("site 0") as client:
        ledger = site.ledger
        assert (ledger.state.epsilon_cap, ledger.state.fallback_cap) == (1.5, 4.0)
        expected = (1e-4, witness) if known else (1e-6, tmp_path / "other")
        assert (ledger.delta, ledger.witness) == expected
        assert client.status().name == "site 0"
    if known:
        (path / MEMBERSHIP).unlink()
        assert code_of(join, path, invitation, accounts=accounts, delta=1e-6) is Code.PRIVACY_DELTA


def test_a_key_without_its_ledger_gets_no_new_one(empty: Loopback, tmp_path: Path) -> None:
    invitation, path = empty.invite("site 0"), empty.path("site 0")
    join(path, invitation, accounts=empty.accounts("site 0"))
    ledger = (path / LEDGER).read_bytes()
    for file in path.iterdir():
        if file.name != IDENTITY:
            file.unlink()
    anew = tmp_path / "accounts.sqlite"  # the machine was lost with its registry
    with pytest.raises(PolyclinicError, match="a new one would forget what was spent") as caught:
        join(path, invitation, accounts=anew)
    assert caught.value.code is Code.LEDGER_ABSENT
    (path / LEDGER).write_bytes(ledger)
    (path / IDENTITY).unlink()
    for _ in range(2):  # nor is the ledger taken for one that was never finished
        refused = code_of(SiteFolder.create, path, delta=1e-5, epsilon_cap=1.0)
        assert refused is Code.LEDGER_EXISTS
    assert (path / LEDGER).read_bytes() == ledger


def test_a_study_too_large_to_be_fetched_is_not_published(empty: Loopback) -> None:
    empty.join("site 0")
    assert code_of(publish_study, empty.server, titled(1, LARGEST_STUDY)) is Code.STUDY_TOO_LARGE
    largest = titled(2, LARGEST_STUDY - len(_manifest(empty, titled(2, 0))))
    assert len(_manifest(empty, largest)) == LARGEST_STUDY
    publish_study(empty.server, largest)
    with empty.client("site 0") as client:
        (offered,) = client.studies()
    assert len(offered.signed.manifest) == LARGEST_STUDY


def _manifest(consortium: Loopback, study: Study) -> bytes:
    return SignedStudy.sign(study, consortium.server.operator).manifest


def test_more_studies_than_a_message_holds_are_listed_in_pages(empty: Loopback) -> None:
    empty.join("site 0")
    hashes = []
    for number in range(9):
        study = titled(number, 1 << 20)
        publish_study(empty.server, study)
        hashes.append(study.hash())
    too_large = SignedStudy.sign(titled(99, LARGEST_STUDY + 1), empty.server.operator)
    empty.handle.store.publish(too_large)  # as an earlier version took it
    with empty.client("site 0") as client:
        offered = client.studies()
        assert sorted(each.signed.hash.hex() for each in offered) == sorted(hashes)
        assert find_study(client, hashes[5]).hash.hex() == hashes[5]


def test_a_closed_study_is_off_the_offer_and_its_id_means_the_next(empty: Loopback) -> None:
    empty.join_all()
    first = empty.publish(titled(1))
    second = empty.publish(titled(2))
    assert code_of(participants, empty.server, first.id) is Code.STUDY_UNKNOWN
    empty.add("site 0", first.hash())
    assert close_study(empty.server, first.hash()[:12]).closed
    assert code_of(close_study, empty.server, first.hash()) is Code.STUDY_UNKNOWN
    assert code_of(publish_study, empty.server, first) is Code.STUDY_CLOSED
    with empty.at("site 0") as (_, client):
        assert find_study(client, first.id).hash.hex() == second.hash()
        declared = empty.handle.store.parts(bytes.fromhex(first.hash()))[0].declaration
        assert code_of(client.declare, declared) is Code.STUDY_CLOSED
    assert code_of(participants, empty.server, first.id) is Code.RUN_TOO_FEW_SITES


def test_an_invitation_is_read_from_any_file_and_a_wrong_path_is_called_so(
    empty: Loopback, tmp_path: Path
) -> None:
    text = empty.invite("site 0").text()
    run = CliRunner()
    for name, content in (
        ("utf16.txt", f"\ufeff{text}".encode("utf-16-le")),
        ("bom.txt", f"\ufeff{text}".encode()),
        ("latin.txt", f"Grüße: {text}".encode("latin-1")),
        ("mail.eml", _mail(text)),
    ):
        (tmp_path / name).write_bytes(content)
        done = run.invoke(app, ["preflight", str(tmp_path / name), "--json"])
        assert "port" in done.output, done.exception
    for named in ("nofile.txt", str(tmp_path), "x" * 5000, "a\0b"):
        done = run.invoke(app, ["preflight", named])
        assert isinstance(done.exception, ConsortiumError)
        assert done.exception.code is Code.INVITATION_UNREADABLE
        assert "no file that can be read" in done.exception.what


def _mail(text: str) -> bytes:
    from email.message import EmailMessage

    mail = EmailMessage()
    mail["Subject"] = "Invitation"
    mail.set_content(f"Dear all,\n\n{text}\n", cte="base64")
    return mail.as_bytes()
