"""Hospital and server over real gRPC and TLS: who gets in, what is refused, what stays secret."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sqlalchemy import update

from polyclinic_client.accounts.account import Beginning
from polyclinic_client.backup import keep_rows
from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.join import join
from polyclinic_client.consortium.peers import list_peers, verify_peer
from polyclinic_client.consortium.preflight import preflight
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.membership import AUTHORITY, TLS, TLS_KEY, Membership
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_common.consortium import consortium_pb2 as pb
from polyclinic_common.consortium.consortium_pb2_grpc import ConsortiumStub, EnrolmentStub
from polyclinic_common.consortium.invitation import Invitation, read_invitation
from polyclinic_common.consortium.statements import vouch
from polyclinic_common.consortium.transport import (
    FETCH_S,
    LARGEST_JOINING,
    LARGEST_MESSAGE,
    STREAM_S,
    UNARY_S,
)
from polyclinic_common.errors import Code, ConsortiumError, PolyclinicError
from polyclinic_common.identity import certificates
from polyclinic_common.identity.site_key import Identity, fingerprint
from polyclinic_server.folder import ServerFolder
from polyclinic_server.service import consortium, rate
from polyclinic_server.service.guard import may_connect
from polyclinic_server.service.serve import serve_consortium
from polyclinic_server.store.tables import KeptRow
from tests.kits.connect_proxy import Proxy
from tests.kits.loopback import Loopback
from tests.kits.typed import answer

ACCOUNT: dict[str, Any] = {"delta": 1e-5, "epsilon_cap": 3.0}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Loopback]:
    """Return a consortium without hospitals."""
    made = Loopback(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Return a consortium of three hospitals, none of which is changed by a test."""
    made = Loopback(tmp_path_factory.mktemp("joined"))
    made.join_all()
    yield made
    made.stop()


def enrol(path: Path, invitation: Invitation) -> None:
    """Join in a folder whose machine has no other account."""
    join(path, invitation, accounts=path.with_name(f"{path.name}-accounts.sqlite"), **ACCOUNT)


def code_of(call: Callable[..., object], *arguments: Any, **more: Any) -> Code:
    with pytest.raises(PolyclinicError) as caught:
        call(*arguments, **more)
    assert caught.value.remedy
    return caught.value.code


# Enrolment


def test_a_hospital_joins_and_is_known_by_its_certificate(joined: Loopback) -> None:
    with joined.client("site 1") as client:
        status = client.status()
        assert (status.name, status.consortium) == ("site 1", "Test consortium")
        assert abs(status.server_time.timestamp() - time.time()) < 5
        peers = {peer.name: peer for peer in client.peers()}
    assert set(peers) == set(joined.names)
    for name in joined.names:
        assert peers[name].identity == read_identity(joined.path(name)).public
        assert peers[name].state == "joined"
    seen = joined.handle.store.site("site 1")
    assert seen.last_seen is not None
    assert seen.version == status.server_version


def test_a_hospital_writes_nothing_to_the_operators_screen_but_words(
    joined: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyclinic_client.consortium.client.VERSION", "\x1b[2J" + 99 * "9")
    with joined.client("site 2") as client:
        client.status()
    assert joined.handle.store.site("site 2").version == "\ufffd[2J" + 36 * "9"


def test_keys_stay_at_the_hospital(joined: Loopback) -> None:
    path = joined.path("site 0")
    for name in (TLS_KEY, "identity.key"):
        assert (path / name).stat().st_mode & 0o777 == 0o600
    private = [read_identity(path).private, (path / TLS_KEY).read_bytes()[60:160]]
    for file in joined.server.path.iterdir():
        content = file.read_bytes()
        assert all(secret not in content for secret in private), file


def test_an_invitation_is_good_once(empty: Loopback, tmp_path: Path) -> None:
    invitation = empty.invite("site 0")
    enrol(tmp_path / "one", invitation)
    assert code_of(lambda: enrol(tmp_path / "two", invitation)) == Code.INVITATION_USED
    assert not (tmp_path / "two" / TLS).exists()
    assert code_of(lambda: enrol(tmp_path / "one", invitation)) == Code.NOT_JOINED


def test_a_hospital_whose_answer_was_lost_gets_the_same_certificate(
    empty: Loopback, tmp_path: Path
) -> None:
    invitation, path = empty.invite("site 0"), tmp_path / "site"
    enrol(path, invitation)
    before = certificates.read_certificate(path / TLS)
    for name in ("consortium.json", TLS):
        (path / name).unlink()
    enrol(path, invitation)
    assert certificates.read_certificate(path / TLS) == before


def test_expired_superseded_and_unknown_invitations_are_refused(
    empty: Loopback, tmp_path: Path
) -> None:
    first = empty.invite("site 0")
    second = empty.invite("site 0")
    wrong = dataclasses.replace(second, secret=bytes(32))
    other = dataclasses.replace(second, id=bytes(16))
    for invitation, code in (
        (first, Code.INVITATION_EXPIRED),
        (wrong, Code.INVITATION_UNKNOWN),
        (other, Code.INVITATION_UNKNOWN),
    ):
        assert code_of(enrol, tmp_path / "a", invitation) == code
    empty.clock.ahead_s = 3601
    assert code_of(enrol, tmp_path / "b", second) == Code.INVITATION_EXPIRED
    empty.clock.ahead_s = 0
    enrol(tmp_path / "b", second)  # the refusals spent nothing


def test_who_is_invited_for_another_name_or_key_is_refused(empty: Loopback) -> None:
    """The identity must vouch for the request's key, under the invited name."""
    invitation, identity, key = (
        empty.invite("site 0"),
        Identity.generate(),
        certificates.generate_key(),
    )
    public = key.public_key()
    vouchers = [
        vouch(identity, invitation.id, "site 1", public),
        vouch(identity, invitation.id, "site 0", certificates.generate_key().public_key()),
        vouch(Identity.generate(), invitation.id, "site 0", public),
        b"",
    ]
    with enrolment(invitation) as channel:
        for voucher in vouchers:
            request = pb.JoinRequest(
                invitation=invitation.id,
                secret=invitation.secret,
                signing_request=certificates.make_request(key, "site 0"),
                identity=identity.public,
                voucher=voucher,
            )
            with pytest.raises(grpc.RpcError) as caught:
                EnrolmentStub(channel).Join(request, timeout=UNARY_S)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_invitation_altered_on_its_way_leads_nowhere(empty: Loopback, tmp_path: Path) -> None:
    """A forged authority is not the one that the server shows: nothing is sent to it."""
    invitation = empty.invite("site 0")
    text = invitation.text()
    for altered in (text[:-20], text.replace("polyclinic-", ""), text[:200] + "A" + text[201:]):
        if altered != text:
            assert code_of(read_invitation, altered) == Code.INVITATION_UNREADABLE
    forged = certificates.Authority.create("Test consortium").certificate
    altered_authority = dataclasses.replace(
        invitation, authority=ssl.PEM_cert_to_DER_cert(certificates.pem(forged).decode())
    )
    assert altered_authority.fingerprint != invitation.fingerprint
    refused = code_of(lambda: enrol(tmp_path / "site", altered_authority))
    assert refused == Code.NOT_REACHED
    enrol(tmp_path / "site", invitation)


def guess(channel: grpc.Channel, invitation: bytes = b"") -> grpc.StatusCode:
    """Try to join with a wrong secret and return what came of it."""
    request = pb.JoinRequest(invitation=invitation, secret=b"guess")
    with pytest.raises(grpc.RpcError) as caught:
        EnrolmentStub(channel).Join(request, timeout=UNARY_S)
    status: grpc.StatusCode = caught.value.code()
    return status


def test_guessing_is_slowed_down(empty: Loopback) -> None:
    with enrolment(empty.invite("site 0")) as channel:
        statuses = [guess(channel) for _ in range(10)]
        statuses += [guess(channel, b"other") for _ in range(13)]
    assert statuses[:20] == [grpc.StatusCode.PERMISSION_DENIED] * 20
    assert statuses[20:] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3


def test_one_invitation_is_guessed_at_a_few_times_only_from_wherever(
    empty: Loopback, tmp_path: Path
) -> None:
    guessed, other = empty.invite("site 0"), empty.invite("site 1")
    with enrolment(guessed) as channel:
        statuses = [guess(channel, guessed.id) for _ in range(11)]
    assert statuses[9:] == [
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]
    assert code_of(lambda: enrol(tmp_path / "0", guessed)) == Code.TOO_MANY_TRIES
    enrol(tmp_path / "1", other)


def test_thirty_hospitals_behind_one_address_join_within_a_minute(empty: Loopback) -> None:
    """Joins that succeed use up no tries, so they leave all of them to who mistypes."""
    for number in range(30):
        enrol(empty.folder / f"h{number}", empty.invite(f"h{number}"))
    assert len([site for site in empty.handle.store.sites() if site.state == "joined"]) == 30
    with enrolment(empty.invite("site 0")) as channel:
        assert guess(channel) == grpc.StatusCode.PERMISSION_DENIED


def test_the_window_of_tries_moves_on() -> None:
    clock = [0.0]
    limit = rate.RateLimit(caller=2, network=3, guesses=2, clock=lambda: clock[0])
    limit.count("ipv4:192.0.2.1:1")
    limit.count("ipv4:192.0.2.1:2")
    assert code_of(lambda: limit.count("ipv4:192.0.2.1:3")) == Code.TOO_MANY_TRIES
    limit.count("ipv4:192.0.2.7:4")
    assert code_of(lambda: limit.count("ipv4:192.0.2.9:5")) == Code.TOO_MANY_TRIES
    limit.count("ipv4:192.0.3.9:5")
    for _ in range(2):
        limit.guessed(b"i")
    assert code_of(lambda: limit.check_guesses(b"i")) == Code.TOO_MANY_TRIES
    clock[0] = 61.0
    limit.count("ipv4:192.0.2.1:6")
    limit.check_guesses(b"i")


def test_one_machine_is_one_caller_however_it_writes_its_address() -> None:
    limit = rate.RateLimit(caller=2)
    limit.count("ipv6:%5B2001:db8::1%5D:1")
    limit.count("ipv6:%5B2001:db8::ffff:0:0:2%5D:2")
    assert code_of(lambda: limit.count("ipv6:%5B2001:db8::3%5D:3")) == Code.TOO_MANY_TRIES
    limit.count("ipv6:%5B2001:db8:0:1::1%5D:4")
    limit.count("ipv6:%5B::ffff:192.0.2.1%5D:5")
    limit.count("ipv4:192.0.2.1:6")
    assert code_of(lambda: limit.count("ipv4:192.0.2.1:7")) == Code.TOO_MANY_TRIES


def test_no_network_uses_up_the_tries_of_another() -> None:
    limit = rate.RateLimit()
    with contextlib.suppress(ConsortiumError):
        for number in range(10_000):
            limit.count(f"ipv4:10.0.0.{number % 256}:1")
    limit.count("ipv4:192.0.2.1:1")


def test_what_is_remembered_of_tries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MOST_REMEMBERED", 50)
    limit = rate.RateLimit(caller=2)
    for number in range(200):
        limit.count(f"ipv4:10.0.{number}.1:1")
        limit.guessed(bytes([number]) * 16_000)
    assert len(limit._tries) == len(limit._guesses) == 50
    assert {len(remembered) for _, remembered in limit._guesses} == {32}  # however long it was


def test_without_the_authoritys_key_nobody_joins_and_everybody_works(
    empty: Loopback, tmp_path: Path
) -> None:
    empty.join("site 0")
    invitation, key = empty.invite("site 1"), empty.server.path / "authority.key"
    key.rename(tmp_path / "kept-elsewhere")
    assert code_of(lambda: enrol(tmp_path / "s", invitation)) == Code.AUTHORITY_AWAY
    with empty.client("site 0") as client:
        assert client.status().name == "site 0"
    (tmp_path / "kept-elsewhere").rename(key)
    enrol(tmp_path / "s", invitation)


# Mutual TLS


def test_no_certificate_and_foreign_certificates_reach_nothing(
    joined: Loopback, tmp_path: Path
) -> None:
    membership = Membership.read(joined.path("site 0"))
    trusted = (joined.path("site 0") / AUTHORITY).read_bytes()
    foreign = certificates.Authority.create("Another consortium")
    key = certificates.generate_key()
    certificate = foreign.certify_site(key.public_key(), "site 0")
    for credentials in (
        grpc.ssl_channel_credentials(trusted),
        grpc.ssl_channel_credentials(
            trusted, certificates.key_pem(key), certificates.pem(certificate)
        ),
    ):
        with grpc.secure_channel(membership.address, credentials) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                ConsortiumStub(channel).ListPeers(pb.PeersRequest(), timeout=3)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    shutil.copytree(joined.path("site 0"), tmp_path / "site")
    (tmp_path / "site" / AUTHORITY).write_bytes(certificates.pem(foreign.certificate))
    with ConsortiumClient.open(tmp_path / "site") as client:
        assert code_of(client.status) == Code.NOT_REACHED


def test_a_revoked_hospital_is_shut_out_of_every_method_at_once(empty: Loopback) -> None:
    empty.join_all()
    with empty.client("site 0") as client, empty.client("site 1") as other:
        assert client.status().name == "site 0"
        empty.handle.store.revoke("site 0")
        calls: list[Callable[[], object]] = [
            client.status,
            client.peers,
            client.studies,
            client.runs,
            client.rows,
            lambda: client.roster(bytes(32)),
            lambda: client.declare(b""),
            lambda: client.approve(b""),
            lambda: client.withdraw(b""),
            lambda: list(client.watch("run")),
            lambda: client.model("run"),
        ]
        for call in calls:
            assert code_of(call) == Code.CERTIFICATE_REFUSED, call
        assert {peer.name: peer.state for peer in other.peers()}["site 0"] == "revoked"
    assert_shut_out_of_health(empty, "site 0")
    with pytest.raises(ConsortiumError):
        empty.join("site 1")  # is in already
    shutil.rmtree(empty.path("site 0"))
    empty.join("site 0", how=Beginning(declared_reset=True))
    with empty.client("site 0") as client:
        assert client.status().name == "site 0"


def assert_shut_out_of_health(consortium: Loopback, name: str) -> None:
    with mutual(consortium, name) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_certificate_ends_when_it_says(empty: Loopback) -> None:
    certificate = certificates.read_certificate(empty.join("site 0") / TLS)
    assert may_connect(empty.handle.store, certificate).name == "site 0"
    empty.clock.ahead_s = 366 * 24 * 3600
    refused = code_of(lambda: may_connect(empty.handle.store, certificate))
    assert refused == Code.CERTIFICATE_REFUSED


def test_a_certificate_that_the_store_does_not_hold_is_refused(
    empty: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by the authority is not enough: the enrolment must have made it."""
    held = certificates.read_certificate(empty.join("site 0") / TLS)
    assert empty.handle.may_connect(held)
    authority, key = empty.server.authority(), certificates.generate_key().public_key()
    another = authority.certify_site(key, "site 0")
    monkeypatch.setattr(
        "polyclinic_common.identity.certificates.secrets.randbits", lambda _: held.serial_number
    )
    same_serial = authority.certify_site(key, "site 0")
    assert same_serial.serial_number == held.serial_number
    for extra in (another, same_serial):
        assert code_of(may_connect, empty.handle.store, extra) == Code.CERTIFICATE_REFUSED
        assert not empty.handle.may_connect(extra)


# Limits, health, reflection


def test_too_large_messages_are_refused(joined: Loopback) -> None:
    with mutual(joined, "site 0") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ConsortiumStub(channel).Declare(
                pb.Signed(statement=bytes(LARGEST_MESSAGE + 1)), timeout=UNARY_S
            )
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_call_without_a_deadline_is_refused(joined: Loopback) -> None:
    with mutual(joined, "site 0") as channel:
        for timeout in (None, 7200.0):
            with pytest.raises(grpc.RpcError) as caught:
                ConsortiumStub(channel).ListPeers(pb.PeersRequest(), timeout=timeout)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_and_reflection_are_the_standard_ones(joined: Loopback) -> None:
    with mutual(joined, "site 0") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="polyclinic.consortium.v1.Consortium")
        answer = health.Check(asked, timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        (found,) = stub.ServerReflectionInfo(iter([listing]), timeout=5)
        names = {each.name for each in found.list_services_response.service}
        assert "polyclinic.consortium.v1.Consortium" in names


def test_an_unforeseen_failure_tells_nothing_of_its_cause(
    joined: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("patient 4711")

    monkeypatch.setattr(joined.handle.store, "sites", fail)
    with joined.client("site 0") as client, pytest.raises(PolyclinicError) as caught:
        client.peers()
    assert caught.value.code == Code.SERVER_FAULT
    assert "4711" not in str(caught.value)


def test_a_port_that_is_taken_is_a_coded_error(joined: Loopback) -> None:
    assert code_of(lambda: serve_consortium(ServerFolder.open(joined.server.path))) == (
        Code.PORT_TAKEN
    )


# Peers


def test_only_a_fingerprint_that_was_read_out_verifies_a_peer(
    joined: Loopback, tmp_path: Path
) -> None:
    shutil.copytree(joined.path("site 0"), tmp_path / "site")
    folder, right = tmp_path / "site", fingerprint(read_identity(joined.path("site 1")).public)
    with ConsortiumClient.open(folder) as client:
        wrong = fingerprint(read_identity(joined.path("site 2")).public)
        for read_out in (wrong, right[:-1], ""):
            refused = code_of(verify_peer, folder, client, "site 1", read_out)
            assert refused == Code.FINGERPRINT_DIFFERS
        for name in ("site 9", "site 0"):
            refused = code_of(verify_peer, folder, client, name, right)
            assert refused == Code.SITE_STATE
        verify_peer(folder, client, "site 1", right.upper())
        known = {peer.name: peer.verified for peer in list_peers(folder, client)}
    assert known == {
        "site 0": "this hospital",
        "site 1": "verified",
        "site 2": "not verified",
    }


def test_a_key_that_changed_is_shown(empty: Loopback) -> None:
    empty.join_all()
    empty.verify("site 0", "site 1")
    empty.handle.store.revoke("site 1")
    shutil.rmtree(empty.path("site 1"))
    empty.join("site 1", how=Beginning(declared_reset=True))
    with empty.client("site 0") as client:
        known = {peer.name: peer.verified for peer in list_peers(empty.path("site 0"), client)}
    assert known["site 1"] == "CHANGED"


# Runs, models, kept rows


def test_a_run_is_watched_until_it_is_over(empty: Loopback) -> None:
    empty.join("site 0")
    study = empty.publish()
    store = empty.handle.store
    run = store.begin_run(bytes.fromhex(study.hash()), rounds=6)
    seen = []
    with empty.client("site 0") as client:
        for status in client.watch(run.id):
            seen.append((status.state, status.round_number, status.note))
            match status.round_number:
                case 0:
                    store.record_run(run.id, round_number=1, note="waits for site 1", flower_run=7)
                case 1:
                    store.record_run(run.id, round_number=6, state="finished", note="")
        assert code_of(lambda: list(client.watch("none"))) == Code.RUN_UNKNOWN
        (listed,) = client.runs()
    assert seen == [("running", 0, ""), ("running", 1, "waits for site 1"), ("finished", 6, "")]
    assert (listed.run, listed.study_hash.hex()) == (run.id, study.hash())
    assert store.run(run.id).flower_runs == [7]


def test_one_hospital_does_not_take_all_places_of_those_who_watch(empty: Loopback) -> None:
    """Every one that watches keeps a thread of the server."""
    empty.join("site 0")
    empty.join("site 1")
    run = empty.handle.store.begin_run(bytes.fromhex(empty.publish().hash()), rounds=6)
    with empty.client("site 0") as greedy, empty.client("site 1") as other:
        watching = [greedy.watch(run.id) for _ in range(2)]
        for each in watching:
            next(each)
        assert code_of(lambda: next(greedy.watch(run.id))) == Code.TOO_MANY_TRIES
        assert next(other.watch(run.id)).round_number == 0


def test_one_hospital_that_does_not_read_what_it_fetches_does_not_shut_out_others(
    empty: Loopback,
) -> None:
    empty.join("site 0")
    empty.join("site 1")
    large = [pb.Row(sequence=number, content=bytes(1 << 18)) for number in range(1, 13)]
    with empty.client("site 0") as greedy, empty.client("site 1") as other:
        for batch in range(12):
            for row in large:
                row.sequence += 12 * bool(batch)
            greedy._stub.KeepRows(pb.RowBatch(rows=large), timeout=UNARY_S)
        unread = [greedy._stub.FetchRows(pb.RowsRequest(), timeout=FETCH_S) for _ in range(2)]
        for each in unread:
            next(each)
        assert code_of(greedy.rows) == Code.TOO_MANY_TRIES
        assert code_of(lambda: greedy.model("run")) == Code.TOO_MANY_TRIES
        more = [greedy._stub.FetchRows(pb.RowsRequest(), timeout=FETCH_S) for _ in range(40)]
        assert other.status().name == "site 1"
        assert other.rows() == []
        for each in (*unread, *more):
            each.cancel()


def test_one_hospital_whose_calls_never_bring_their_message_does_not_shut_out_others(
    empty: Loopback,
) -> None:
    empty.join("site 0")
    empty.join("site 1")
    method = f"/{pb.DESCRIPTOR.services_by_name['Consortium'].full_name}/GetStatus"
    never = threading.Event()

    def silent() -> Iterator[bytes]:
        never.wait()
        yield b""

    with empty.client("site 0") as greedy, empty.client("site 1") as other:
        call: Any = greedy._channel.stream_unary(method)
        endless = call.future(silent())
        assert endless.exception().code() == grpc.StatusCode.INVALID_ARGUMENT
        hanging = [call.future(silent(), timeout=UNARY_S) for _ in range(70)]
        assert other.status().name == "site 1"
        never.set()
        for each in hanging:
            each.cancel()


def test_what_is_fetched_is_fetched_within_minutes(empty: Loopback) -> None:
    empty.join("site 0")
    with empty.client("site 0") as client:
        for call in (
            client._stub.FetchRows(pb.RowsRequest(), timeout=STREAM_S),
            client._stub.FetchModel(pb.RunRequest(run="run"), timeout=STREAM_S),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_model_is_taken_only_with_the_operators_signature(empty: Loopback) -> None:
    import hashlib

    from polyclinic_common.consortium.signed import sign_model

    empty.join("site 0")
    study_hash, content = bytes.fromhex(empty.publish().hash()), bytes(range(256)) * 3000
    store, digest = empty.handle.store, hashlib.sha256(content).digest()
    run = store.begin_run(study_hash, rounds=1).id
    right = sign_model(empty.server.operator, study_hash, run, digest)
    forged = sign_model(Identity.generate(), study_hash, run, digest)
    with empty.client("site 0") as client:
        assert code_of(lambda: client.model(run)) == Code.RUN_UNKNOWN
        store.release_model(run, digest, forged, content)
        assert code_of(lambda: client.model(run)) == Code.STUDY_SIGNATURE
        store.release_model(run, digest, right, content)
        assert client.model(run) == content


def test_a_hospital_gets_its_own_rows_back_and_no_others(empty: Loopback) -> None:
    empty.join_all()
    with empty.at("site 0") as (site, client):
        for cap in range(4, 260):
            site.ledger.set_caps(float(cap))
        rows = site.ledger.export_rows()
        client.keep_rows(rows)
        client.keep_rows(rows[:3])  # again: nothing is replaced
        assert client.rows() == rows
        kept = b"".join(row.content for row in empty.handle.store.rows("site 0", 0, 300))
        for row in rows:
            assert row.body not in kept
            assert row.hash.hex().encode() not in kept
        assert client.rows(after=200) == [row for row in rows if row.sequence > 200]
    with empty.client("site 1") as other:
        assert other.rows() == []


def test_long_rows_of_a_large_consortium_are_kept_too(empty: Loopback) -> None:
    """A settlement's proof over fifty hospitals takes some 54 kB."""
    empty.join_all()
    with empty.at("site 0") as (site, client):
        long = site.ledger.export_rows()[0]._replace(body=b"x" * 60_000)
        rows = [long._replace(sequence=number) for number in range(1, 61)]
        client.keep_rows(rows)
        assert client.rows() == rows


@pytest.mark.parametrize("limit", [{"MOST_BYTES": 3000}, {"MOST_ROWS": 3}])
def test_rows_are_kept_up_to_a_quota_and_the_refusal_leaves_the_hospital_unharmed(
    empty: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: dict[str, int],
) -> None:
    for name, value in limit.items():
        monkeypatch.setattr(consortium, name, value)
    empty.join_all()
    with empty.at("site 0") as (site, client):
        client.keep_rows(site.ledger.export_rows())
        for cap in range(4, 30):
            site.ledger.set_caps(float(cap))
    path = empty.path("site 0")
    assert keep_rows.main(path) == keep_rows.main(path) == 0
    assert caplog.text.count("keeps no more rows of this hospital's ledger") == 1
    with empty.at("site 0") as (site, client):
        assert code_of(lambda: client.keep_rows(site.ledger.export_rows())) == Code.ROWS_FULL
        kept = client.rows()
        assert site.ledger.export_rows()[: len(kept)] == kept
        client.keep_rows(kept)  # what is there already costs nothing
        site.ledger.set_caps(99.0)
        assert client.status().name == "site 0"
    assert keep_rows.main(empty.path("site 1")) == 0
    with empty.client("site 1") as other:
        assert other.rows()  # the quota is each hospital's own
    monkeypatch.setattr(consortium, "MOST_BYTES", 1 << 28)
    monkeypatch.setattr(consortium, "MOST_ROWS", 100_000)
    assert keep_rows.main(path) == 0
    with empty.at("site 0") as (site, client):
        assert client.rows() == site.ledger.export_rows()


def test_a_row_that_the_server_altered_is_refused(empty: Loopback) -> None:
    empty.join_all()
    with empty.at("site 0") as (site, client):
        client.keep_rows(site.ledger.export_rows())
        with empty.handle.store.engine.begin() as connection:
            connection.execute(update(KeptRow).values(content=bytes(100)))
        assert code_of(client.rows) == Code.LEDGER_DAMAGED


def test_a_ledger_put_back_from_a_copy_recovers_from_the_consortium(
    empty: Loopback, tmp_path: Path
) -> None:
    path = empty.join("site 0", witness=tmp_path / "witness")
    copy = (path / "ledger.sqlite").read_bytes()
    with empty.at("site 0") as (site, client):
        site.ledger.set_caps(2.5)
        client.keep_rows(site.ledger.export_rows())
    for left in path.glob("ledger.sqlite*"):
        left.unlink()
    (path / "ledger.sqlite").write_bytes(copy)
    assert code_of(SiteFolder.open, path) == Code.LEDGER_BEHIND
    words = ("client", "ledger", "recover", "--from-consortium", "--site", path)
    assert answer(*words) == {"reimported": 1, "charged": 0}
    with SiteFolder.open(path) as site:
        assert site.ledger.budget().epsilon_cap == 2.5


# Preflight


def test_preflight_names_what_is_wrong_with_a_remedy(joined: Loopback, tmp_path: Path) -> None:
    found = {check.name: check for check in preflight(joined.path("site 0"))}
    failed = {name for name, check in found.items() if not check.ok}
    assert failed == {f"port {joined.server.settings.ports.fleet}"}  # nobody listens there here
    assert all(check.ok or check.remedy for check in found.values())
    joined.clock.ahead_s = -4
    clock = {check.name: check for check in preflight(joined.path("site 0"))}["clock"]
    assert not clock.ok
    assert "ahead" in clock.what


def test_preflight_sees_that_tls_is_intercepted(joined: Loopback, tmp_path: Path) -> None:
    """Another consortium's server at the same name: its certificate is not ours."""
    other = Loopback(tmp_path / "other")
    shutil.copytree(joined.path("site 0"), tmp_path / "site")
    try:
        member = Membership.read(tmp_path / "site")
        member.model_copy(update={"port": other.server.settings.ports.consortium}).write(
            tmp_path / "site"
        )
        found = [check for check in preflight(tmp_path / "site") if not check.ok]
    finally:
        other.stop()
    (seen,) = [check for check in found if "certificate of CN=Test consortium" in check.what]
    assert "intercepted" in seen.remedy
    assert any(check.name == "service" for check in found)


def test_a_proxy_is_honoured(
    empty: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy()
    proxy.start()
    monkeypatch.setenv("https_proxy", proxy.url)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    enrol(tmp_path / "site", empty.invite("site 0"))
    with ConsortiumClient.open(tmp_path / "site") as client:
        assert client.status().name == "site 0"
    ports = empty.server.settings.ports
    for port in (ports.enrolment, ports.consortium):
        assert f"localhost:{port}" in proxy.connected
    before = len(proxy.connected)
    found = {check.name: check for check in preflight(tmp_path / "site")}
    assert proxy.url.removeprefix("http://") in found["proxy"].what
    assert found[f"port {ports.consortium}"].ok
    assert len(proxy.connected) > before
    proxy.listener.close()


def enrolment(invitation: Invitation) -> grpc.Channel:
    trusted = grpc.ssl_channel_credentials(certificates.pem(invitation.certificate))
    return grpc.secure_channel(f"{invitation.host}:{invitation.port}", trusted)


def mutual(consortium: Loopback, name: str) -> grpc.Channel:
    folder = consortium.path(name)
    parts = [(folder / part).read_bytes() for part in (AUTHORITY, TLS_KEY, TLS)]
    address = Membership.read(folder).address
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*parts))


def test_a_joining_message_has_its_limit(empty: Loopback) -> None:
    with enrolment(empty.invite("site 0")) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            EnrolmentStub(channel).Join(
                pb.JoinRequest(secret=bytes(LARGEST_JOINING + 1)), timeout=UNARY_S
            )
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_site_opens_again_after_the_server_was_restarted(empty: Loopback) -> None:
    empty.join("site 0")
    empty.restart()
    with empty.at("site 0") as (site, client):
        assert client.status().name == "site 0"
        assert isinstance(site, SiteFolder)
