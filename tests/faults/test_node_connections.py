"""A node goes out only, through the proxy if there is one, never to where a redirect points."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from polyclinic_client.node.fleet import Fleet, UnreachableError
from polyclinic_client.node.health import SOCKET
from polyclinic_client.node.main import NodeSettings, run_node
from polyclinic_client.node.status import read_status
from polyclinic_common.errors import NodeError
from polyclinic_common.identity.certificates import client_context
from tests.kits.consortium import Authority, Consortium, Pair, consortium, key_of, wait_for

LONG_S = 60.0


def connected(house: Consortium, name: str) -> int:
    log = house.folder / f"{name}.log"
    return log.read_text().count("INFO connected") if log.exists() else 0


@contextmanager
def proxy(folder: Path) -> Iterator[tuple[str, Path]]:
    """A real proxy in a process of its own: its address, and where it writes what it did."""
    log, port = folder / "proxy.log", folder / "proxy.port"
    process = subprocess.Popen([sys.executable, "-m", "tests.kits.proxy", str(log), str(port)])
    try:
        wait_for("proxy", lambda: port.exists() and bool(port.read_text()))
        yield f"http://127.0.0.1:{port.read_text()}", log
    finally:
        process.terminate()
        process.wait()


def test_a_node_waits_for_its_server_and_comes_back_to_it(tmp_path: Path) -> None:
    """Through a proxy: first there is no server, then there is, then it starts again."""
    with consortium(tmp_path, sites=3) as house, proxy(tmp_path) as (address, log):
        with socket.create_server(("127.0.0.1", 0)) as free:
            house.port = free.getsockname()[1]
        house.start_node("site 0", HTTPS_PROXY=address)
        wait_for("try", lambda: "out of reach" in house.log("site 0"), LONG_S)
        house.start_server()
        wait_for("connection", lambda: connected(house, "site 0") == 1, LONG_S)
        assert set(log.read_text().splitlines()) == {f"CONNECT {house.public}"}
        status = read_status(house.site_folder("site 0"))
        assert status is not None
        assert status.connected
        assert (status.pid, status.worker) == (house.processes["site 0"].pid, None)
        assert health_of(house.site_folder("site 0")) == (200, status.model_dump())
        house.kill("server")
        wait_for("sick", lambda: health_of(house.site_folder("site 0"))[0] == 503, LONG_S)
        house.start_server()
        wait_for("second connection", lambda: connected(house, "site 0") == 2, LONG_S)
        assert house.processes.pop("site 0").end() == 0
        assert read_status(house.site_folder("site 0")) is None
        assert not (house.site_folder("site 0") / SOCKET).exists()


def health_of(folder: Path) -> tuple[int, dict[str, object]]:
    """Ask a node how it is."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(folder / SOCKET))) as client:
        assert client.get("http://node/elsewhere").status_code == 404
        found = client.get("http://node/health")
    return found.status_code, found.json()


class Elsewhere:
    """A TLS server that gives one answer to everything, and counts who comes."""

    def __init__(self, pair: Pair, answer: bytes):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.certificate, pair.key)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.answer = answer
        self.visits = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            plain, _ = self.socket.accept()
            self.visits += 1
            with suppress(OSError), self.context.wrap_socket(plain, server_side=True) as sock:
                read_request(sock)
                sock.sendall(self.answer)


def read_request(sock: ssl.SSLSocket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"content-length: (\d+)", head.lower())
    while len(body) < int(length):
        body += sock.recv(65536)


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(tmp_path: Path, status: str) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("site 0")
    shown = authority.issue("server", server=True)
    target = Elsewhere(shown, answer("200 OK"))
    where = f"location: https://127.0.0.1:{target.port}/v1/fleet/activate-node"
    server = Elsewhere(shown, answer(status, where))
    context = client_context(pair.certificate, pair.key, authority.path)
    fleet = Fleet(f"127.0.0.1:{server.port}", context, key_of(pair))
    with pytest.raises(UnreachableError, match=status.split(maxsplit=1)[0]):
        fleet.activate()
    assert (server.visits, target.visits) == (1, 0)


@pytest.mark.parametrize("said", ["200 OK", "401 Unauthorized", "426 Upgrade Required", "500 No"])
def test_nothing_that_a_server_says_ends_the_node(tmp_path: Path, said: str) -> None:
    """Flower's own client stops its process on some answers."""
    authority = Authority(tmp_path)
    pair, shown = authority.issue("site 0"), authority.issue("server", server=True)
    body = b'{"code": 1, "message": "incompatible Flower version"}'
    server = Elsewhere(shown, answer(said, "flwr-runtime-version: 0.0.1", body=body))
    context = client_context(pair.certificate, pair.key, authority.path)
    with pytest.raises(UnreachableError):
        Fleet(f"127.0.0.1:{server.port}", context, key_of(pair)).activate()


def test_a_server_of_another_authority_is_not_spoken_to(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair, shown = authority.issue("site 0"), other.issue("server", server=True)
    server = Elsewhere(shown, answer("200 OK"))
    context = client_context(pair.certificate, pair.key, authority.path)
    with pytest.raises(UnreachableError, match="ConnectError"):
        Fleet(f"127.0.0.1:{server.port}", context, key_of(pair)).activate()


def test_a_second_node_in_one_folder_is_refused(tmp_path: Path) -> None:
    import fcntl

    house = Consortium(tmp_path, sites=3)
    pair, folder = house.pairs["site 0"], house.site_folder("site 0")
    settings = NodeSettings(
        folder, "localhost:1", pair.certificate, pair.key, house.authority.path, "none:none"
    )
    with (folder / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(NodeError, match="already"):
            run_node(settings)
