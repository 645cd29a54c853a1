"""The public listener lets a hospital's node do its own work, and nobody anything else."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node

from polyclinic_client.node.fleet import Fleet, UnreachableError
from polyclinic_common.identity.certificates import client_context
from polyclinic_server.superlink.fleet_gate import LARGEST_BODY
from polyclinic_server.superlink.flower_link import MOST_PARTS
from polyclinic_server.superlink.listeners import LARGEST_HEAD, MOST_OF_A_SITE, bound
from tests.kits.consortium import QUICK_S, Authority, Consortium, Pair, consortium, key_of

CONTENT = {"content-type": "application/protobuf", "accept": "application/protobuf"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    with consortium(tmp_path_factory.mktemp("consortium"), sites=3) as made:
        made.start_server(quick=True)
        yield made


def tls(house: Consortium, pair: Pair | None, authority: Path | None = None) -> ssl.SSLContext:
    trusted = authority or house.authority.path
    if pair is not None:
        return client_context(pair.certificate, pair.key, trusted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted)
    return context


def signed(pair: Pair) -> dict[str, str]:
    """Return the headers with which Flower's node states and proves its key."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    stamp = dt.datetime.now(dt.UTC).isoformat()
    signature = key_of(pair).sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))
    return {
        "flwr-public-key": b64encode(pair.node_key.encode()).decode(),
        "flwr-signature": b64encode(signature).decode(),
        "flwr-timestamp": stamp,
    }


def client(house: Consortium, pair: Pair | None) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://{house.public}", verify=tls(house, pair), trust_env=False, timeout=30
    )


def post(
    house: Consortium, path: str, body: bytes, pair: Pair, node: Pair | None = None
) -> httpx.Response:
    """Post as the owner of a certificate, with the node key of the same or another hospital."""
    with client(house, pair) as http:
        return http.post(path, content=body, headers=CONTENT | signed(node or pair))


def activate(pair: Pair) -> bytes:
    request = ActivateNodeRequest(public_key=pair.node_key.encode(), heartbeat_interval=30)
    return bytes(request.SerializeToString())


def node_of(house: Consortium, name: str) -> Node:
    pair = house.pairs[name]
    answer = post(house, "/v1/fleet/activate-node", activate(pair), pair)
    assert answer.status_code == 200
    return Node(node_id=ActivateNodeResponse.FromString(answer.content).node_id)


def test_a_hospital_of_the_consortium_is_let_in(house: Consortium) -> None:
    assert node_of(house, "site 0").node_id


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_the_other_side(host: str) -> None:
    """An answer is two writes: Nagle's algorithm would hold the second back for 40 ms."""
    with bound(host, 0) as listening, socket.create_connection(listening.getsockname()[:2]):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_node_that_was_killed_may_start_again(house: Consortium) -> None:
    """Flower takes it for running still, and lets no running node start."""
    assert node_of(house, "site 0") == node_of(house, "site 0")


def test_without_a_certificate_nobody_speaks(house: Consortium) -> None:
    with pytest.raises(httpx.TransportError), client(house, None) as http:
        http.post("/v1/fleet/activate-node", content=b"")


@pytest.mark.parametrize("days", [(-3, 30), (-3, -1), (1, 3)], ids=["other CA", "over", "to come"])
def test_a_certificate_of_others_or_of_another_time_is_not_taken(
    house: Consortium, tmp_path: Path, days: tuple[float, float]
) -> None:
    other = Authority(tmp_path) if days == (-3, 30) else house.authority
    name = f"stranger{days[0]}{days[1]}"
    stranger = other.issue(name, days=days)
    fleet = Fleet(house.public, tls(house, stranger), key_of(stranger))
    with pytest.raises(UnreachableError, match="Error"):
        fleet.activate()


def test_the_servers_own_certificate_is_no_hospitals(house: Consortium) -> None:
    with pytest.raises(httpx.TransportError):
        post(house, "/v1/fleet/activate-node", b"", house.server_pair)


def test_a_revoked_hospital_is_shut_out_at_once_and_on_an_open_connection(
    house: Consortium,
) -> None:
    pair = house.pairs["site 2"]
    node = node_of(house, "site 2")
    shown = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    pull = PullMessagesRequest(node=node).SerializeToString()
    with client(house, pair) as http:
        body, path = activate(pair), "/v1/fleet/activate-node"
        assert http.post(path, content=body, headers=CONTENT | signed(pair)).status_code == 200
        house.revoked.write_text(str(shown.serial_number))
        try:
            refused = http.post(
                "/v1/fleet/pull-messages", content=pull, headers=CONTENT | signed(pair)
            )
            assert refused.status_code == 403
        finally:
            house.revoked.write_text("")


def test_one_hospitals_certificate_does_not_carry_anothers_node_key(house: Consortium) -> None:
    own, other = house.pairs["site 0"], house.pairs["site 1"]
    answer = post(house, "/v1/fleet/activate-node", activate(other), own, node=other)
    assert answer.status_code == 403
    answer = post(house, "/v1/fleet/activate-node", activate(other), own)
    assert answer.status_code == 401


def test_a_key_without_its_signature_is_refused(house: Consortium) -> None:
    own, other = house.pairs["site 0"], house.pairs["site 1"]
    headers = signed(own) | {"flwr-signature": signed(other)["flwr-signature"]}
    with client(house, own) as http:
        answer = http.post(
            "/v1/fleet/activate-node", content=activate(own), headers=CONTENT | headers
        )
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["pull-messages", "send-node-heartbeat", "deactivate-node"])
def test_a_node_does_nothing_in_another_nodes_name(house: Consortium, name: str) -> None:
    node = node_of(house, "site 1")
    kinds = {
        "pull-messages": PullMessagesRequest(node=node),
        "send-node-heartbeat": SendNodeHeartbeatRequest(node=node, heartbeat_interval=30),
        "deactivate-node": DeactivateNodeRequest(node_id=node.node_id),
    }
    answer = post(
        house, f"/v1/fleet/{name}", kinds[name].SerializeToString(), house.pairs["site 0"]
    )
    assert answer.status_code == 401


def test_a_node_answers_for_no_other_node(house: Consortium) -> None:
    """Flower compares the sender of an answer with the addressee of the question, no more."""
    own, other = node_of(house, "site 0"), node_of(house, "site 1")
    forged = Message(metadata=Metadata(src_node_id=other.node_id))
    body = PushMessagesRequest(node=own, messages_list=[forged]).SerializeToString()
    answer = post(house, "/v1/fleet/push-messages", body, house.pairs["site 0"])
    assert answer.status_code == 403


def test_a_reply_of_countless_parts_is_not_taken(house: Consortium) -> None:
    """SuperLink keeps something for every part that is announced."""
    node = node_of(house, "site 0")
    own = Message(metadata=Metadata(src_node_id=node.node_id))
    for parts, refused in ((MOST_PARTS + 1, True), (MOST_PARTS, False)):
        children = [ObjectTree(object_id=f"{number:064x}") for number in range(1, parts)]
        tree = ObjectTree(object_id="0" * 64, children=children)
        pushed = PushMessagesRequest(node=node, messages_list=[own], message_object_trees=[tree])
        body = pushed.SerializeToString()
        answer = post(house, "/v1/fleet/push-messages", body, house.pairs["site 0"])
        assert (answer.status_code == 403) == refused


def test_one_hospital_does_not_take_all_connections(house: Consortium) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_OF_A_SITE):
            stack.enter_context(connection(house, house.pairs["site 0"]))
        began = time.monotonic()
        with suppress(OSError), connection(house, house.pairs["site 0"]) as one_more:
            assert one_more.recv(1) == b""
        assert time.monotonic() - began < QUICK_S - 0.5
        assert node_of(house, "site 1").node_id
    assert node_of(house, "site 0").node_id


def test_nobody_registers_himself_or_fetches_a_bundle(house: Consortium) -> None:
    pair = house.pairs["site 0"]
    body = RegisterNodeFleetRequest(public_key=pair.node_key.encode()).SerializeToString()
    for name in ("register-node", "unregister-node", "get-fab"):
        assert post(house, f"/v1/fleet/{name}", body, pair).status_code == 404


TRICKS = [
    "/v1/control/start-run",
    "/v1/control/list-nodes",
    "/v1/runtime/acquire-task",
    "/docs",
    "/openapi.json",
    "/health",
    "/",
    "*",
    "/v1/fleet",
    "/v1/fleet/",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/v1/fleet/..%2fcontrol%2flist-nodes",
    "/v1%2ffleet%2factivate-node",
    "/v1/fleet/activate%2dnode",
    "//v1/fleet/activate-node",
    "/v1//fleet/activate-node",
    "/v1/fleet//activate-node",
    "/v1/fleet/activate-node/",
    "/v1/fleet/activate-node?x=1",
    "/v1/fleet/activate-node;x",
    "/V1/fleet/activate-node",
    "http://localhost/v1/control/list-nodes",
]


@pytest.mark.parametrize("path", TRICKS)
def test_nothing_but_the_fleet_api_is_found_from_outside(house: Consortium, path: str) -> None:
    pair = house.pairs["site 0"]
    assert status_of(house, pair, "POST", path, activate(pair)) in {400, 404}


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "DELETE"])
def test_no_other_method_is_found(house: Consortium, method: str) -> None:
    pair = house.pairs["site 0"]
    answer = status_of(house, pair, method, "/v1/fleet/activate-node", activate(pair))
    assert answer in {400, 404}


def connection(house: Consortium, pair: Pair) -> ssl.SSLSocket:
    host, _, port = house.public.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=40)
    return tls(house, pair).wrap_socket(plain, server_hostname="localhost")


def head(pair: Pair, method: str, path: str, length: int) -> bytes:
    headers = CONTENT | signed(pair) | {"host": "localhost", "content-length": str(length)}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def status_of(house: Consortium, pair: Pair, method: str, path: str, body: bytes) -> int:
    """Send a request exactly as it is written here and return the status of the answer."""
    with connection(house, pair) as sock:
        sock.sendall(head(pair, method, path, len(body)) + body)
        return status(sock)


def status(sock: ssl.SSLSocket) -> int:
    line = sock.recv(64).split(b"\r\n")[0].split()
    return int(line[1]) if line else 0


def test_an_upgrade_leads_nowhere(house: Consortium) -> None:
    pair = house.pairs["site 0"]
    asked = head(pair, "GET", "/v1/fleet/activate-node", 0)
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\n\r\n"
    with connection(house, pair) as sock:
        sock.sendall(asked[:-2] + upgrade)
        assert status(sock) in {400, 404}


def test_an_oversized_body_is_cut_off(house: Consortium) -> None:
    pair = house.pairs["site 0"]
    with connection(house, pair) as sock:
        sock.sendall(head(pair, "POST", "/v1/fleet/push-object", LARGEST_BODY + 1))
        part = bytes(1024 * 1024)
        try:
            for _ in range(LARGEST_BODY // len(part) + 1):
                sock.sendall(part)
            answer = status(sock)
        except OSError:  # cut off before everything was sent
            return
    assert answer == 413


def test_an_endless_body_in_chunks_is_cut_off(house: Consortium) -> None:
    pair = house.pairs["site 0"]
    asked = head(pair, "POST", "/v1/fleet/push-object", 0)
    asked = asked.replace(b"content-length: 0", b"transfer-encoding: chunked")
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    with connection(house, pair) as sock:
        sock.sendall(asked)
        try:
            for _ in range(2 * LARGEST_BODY // 0x100000):
                sock.sendall(chunk)
            answer = status(sock)
        except OSError:
            return
    assert answer == 413


def test_an_oversized_head_is_refused(house: Consortium) -> None:
    pair = house.pairs["site 0"]
    with connection(house, pair) as sock:
        try:
            sock.sendall(b"POST / HTTP/1.1\r\nx: " + b"y" * 4 * LARGEST_HEAD)
            assert status(sock) in {0, 400}
        except OSError:
            return


def test_two_lengths_are_refused(house: Consortium) -> None:
    """What two servers read differently can smuggle a request past one of them."""
    pair = house.pairs["site 0"]
    asked = head(pair, "POST", "/v1/fleet/activate-node", 5)
    both = asked[:-2] + b"transfer-encoding: chunked\r\n\r\n"
    twice = asked[:-2] + b"content-length: 0\r\n\r\n"
    for smuggled in (both, twice):
        with connection(house, pair) as sock:
            sock.sendall(smuggled + b"0\r\n\r\n")
            assert status(sock) in {400, 401}


@pytest.mark.parametrize("sent", [b"", b"POST /v1/fleet/acti"], ids=["nothing", "a part"])
def test_a_slow_head_is_hung_up_on(house: Consortium, sent: bytes) -> None:
    with connection(house, house.pairs["site 0"]) as sock:
        began = time.monotonic()
        sock.sendall(sent)
        with suppress(OSError):
            assert sock.recv(1) == b""
        assert QUICK_S - 1 < time.monotonic() - began < QUICK_S + 10


def test_a_slow_second_head_is_hung_up_on_and_dripping_does_not_help(house: Consortium) -> None:
    pair = house.pairs["site 0"]
    body = activate(pair)
    with connection(house, pair) as sock:
        sock.sendall(head(pair, "POST", "/v1/fleet/activate-node", len(body)) + body)
        assert status(sock) == 200
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < QUICK_S + 10:
                sock.sendall(b"P")
                time.sleep(0.3)
        assert QUICK_S - 1 < time.monotonic() - began < QUICK_S + 8


def test_a_slow_body_is_not_waited_for(house: Consortium) -> None:
    pair = house.pairs["site 0"]
    with connection(house, pair) as sock:
        began = time.monotonic()
        sock.sendall(head(pair, "POST", "/v1/fleet/push-object", 1000))
        with suppress(OSError):
            while time.monotonic() - began < QUICK_S + 1:
                sock.sendall(b"x")
                time.sleep(0.3)
        assert status(sock) in {0, 408}
        assert time.monotonic() - began < QUICK_S + 10


def test_the_server_is_well_after_all_this(house: Consortium) -> None:
    assert node_of(house, "site 1").node_id
    assert httpx.get(f"http://{house.loopback}/health", trust_env=False).status_code == 200
