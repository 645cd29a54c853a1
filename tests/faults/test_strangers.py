"""Strangers who connect and say nothing shut no hospital out, nor take the server's last file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.join import join
from polyclinic_client.folder.membership import tls_context
from polyclinic_common.errors import Code, ServerError
from polyclinic_common.identity import certificates
from polyclinic_server import descriptors
from polyclinic_server.consortium.invite import invite_site
from polyclinic_server.folder import Ports, ServerFolder, Settings
from polyclinic_server.superlink import door
from polyclinic_server.superlink.listeners import bound, public_listener
from tests.kits.typed_consortium import free_ports

LOOPBACK = "127.0.0.1"
LONG_S = 40.0  # less than asyncio's own patience with a handshake
FEW_FILES = 512
HELLO = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
SERVER = """
import resource, sys
from pathlib import Path
from polyclinic_server.folder import ServerFolder
from polyclinic_server.up.serve import serve
resource.setrlimit(resource.RLIMIT_NOFILE, (128, int(sys.argv[2])))
serve(ServerFolder.open(Path(sys.argv[1])), lambda _: print("ready", flush=True))
"""


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """Let the strangers of this module open as many connections as they want."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors.raise_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def strangers(port: int, count: int, source: str = LOOPBACK) -> Iterator[list[socket.socket]]:
    """Connect so often from an address, and say nothing."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            one = socket.create_connection((LOOPBACK, port), LONG_S, source_address=(source, 0))
            made.append(stack.enter_context(one))
        yield made


def hung_up_on(connections: Sequence[socket.socket]) -> int:
    """Return how many of these connections the other end has closed."""
    closed = 0
    for each in connections:
        each.setblocking(False)
        try:
            closed += each.recv(1) == b""
        except BlockingIOError:
            pass
        except ConnectionResetError:
            closed += 1
    return closed


def wait_until_hung_up_on(connections: Sequence[socket.socket], count: int) -> None:
    """Wait until the other end has closed so many of these connections."""
    waited = threading.Event()
    for _ in range(int(LONG_S * 20)):
        if hung_up_on(connections) >= count:
            return
        waited.wait(0.05)
    raise AssertionError(f"{hung_up_on(connections)} of {count} were hung up on")


# The public listener


@dataclass
class House:
    """A public listener with an application that greets, in this process."""

    port: int
    context: ssl.SSLContext

    def greets(self, source: str = LOOPBACK) -> bool:
        """Say whether a hospital's request is answered."""
        plain = socket.create_connection((LOOPBACK, self.port), LONG_S, source_address=(source, 0))
        with plain, self.context.wrap_socket(plain, server_hostname=LOOPBACK) as tls:
            tls.sendall(HELLO)
            return tls.recv(64).startswith(b"HTTP/1.1 200")


async def greet(_: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    await receive()
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what server and hospital of a consortium speak."""
    authority = certificates.Authority.create("c")
    (tmp_path / "a.pem").write_bytes(certificates.pem(authority.certificate))
    server_key, site_key = certificates.generate_key(), certificates.generate_key()
    made = {
        "s": (server_key, authority.certify_server(server_key.public_key(), [LOOPBACK])),
        "h": (site_key, authority.certify_site(site_key.public_key(), "h")),
    }
    for name, (key, certificate) in made.items():
        certificates.write_private(tmp_path / f"{name}.key", certificates.key_pem(key))
        (tmp_path / f"{name}.pem").write_bytes(certificates.pem(certificate))
    files = {name: (tmp_path / f"{name}.pem", tmp_path / f"{name}.key") for name in "sh"}
    own = tmp_path / "a.pem"
    return certificates.server_context(*files["s"], own), certificates.client_context(
        *files["h"], own
    )


@contextmanager
def listening(certified: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[House]:
    server, client = certified
    sock = bound(LOOPBACK, 0)
    listener, port = public_listener(greet, server), sock.getsockname()[1]
    serving = threading.Thread(target=lambda: asyncio.run(listener.serve([sock])), daemon=True)
    serving.start()
    try:
        yield House(port, client)
    finally:
        listener.should_exit = True
        serving.join(LONG_S)
    assert not serving.is_alive()


@pytest.fixture
def house(certified: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[House]:
    with listening(certified) as made:
        yield made


def test_hundreds_of_silent_strangers_shut_no_hospital_out(house: House) -> None:
    """The hospital comes from their own address: behind NAT it might."""
    assert house.greets()
    with strangers(house.port, 600) as silent:
        assert house.greets()
        wait_until_hung_up_on(silent, 600 - door.MOST_OF_AN_ADDRESS)
        assert house.greets()
    assert house.greets()


def test_strangers_of_one_address_take_no_place_of_another(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_S", LONG_S)
    with strangers(house.port, 5) as few, strangers(house.port, 200, "127.0.0.2") as many:
        wait_until_hung_up_on(many, 200 - door.MOST_OF_AN_ADDRESS)
        assert house.greets()
        assert house.greets("127.0.0.2")
        assert hung_up_on(few) == 0
        assert hung_up_on(many) == 200 - door.MOST_OF_AN_ADDRESS + 1  # which gave way


def test_strangers_of_many_addresses_are_limited_together_and_the_largest_gives_way(
    certified: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_S", LONG_S)
    monkeypatch.setattr(descriptors, "MOST_UNFINISHED", 40)
    with listening(certified) as house, ExitStack() as stack:
        sources = [f"127.0.1.{number}" for number in range(1, 21)]
        lonely = [stack.enter_context(strangers(house.port, 1, each))[0] for each in sources]
        many = stack.enter_context(strangers(house.port, 30, "127.0.0.2"))
        wait_until_hung_up_on(many, 10)
        assert house.greets()
        assert hung_up_on(lonely) == 0


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00"], ids=["nothing", "a part"])
def test_a_handshake_that_takes_too_long_is_ended(
    house: House, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    assert door.HANDSHAKE_S == 5.0
    monkeypatch.setattr(door, "HANDSHAKE_S", 0.2)
    with strangers(house.port, 1) as (one,):
        one.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(1) == b""


def test_finished_connections_do_not_count_as_strangers(house: House) -> None:
    """More hospitals than unfinished handshakes may share an address."""
    with ExitStack() as stack:
        for _ in range(8):
            plain = stack.enter_context(socket.create_connection((LOOPBACK, house.port), LONG_S))
            tls = stack.enter_context(house.context.wrap_socket(plain, server_hostname=LOOPBACK))
            with strangers(house.port, door.MOST_OF_AN_ADDRESS):
                tls.sendall(HELLO)
                assert tls.recv(64).startswith(b"HTTP/1.1 200")


@contextmanager
def all_files_taken() -> Iterator[None]:
    """Let this process open no file more, until it closes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_listener_without_files_goes_on_as_soon_as_there_are_some(
    certified: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should something else take all files, whoever hangs longest gives way."""
    monkeypatch.setattr(door, "HANDSHAKE_S", LONG_S)
    with listening(certified) as house, strangers(house.port, 20) as silent:
        assert house.greets()
        with socket.socket() as plain, all_files_taken():
            plain.settimeout(LONG_S)
            plain.connect((LOOPBACK, house.port))
            with house.context.wrap_socket(plain, server_hostname=LOOPBACK) as tls:
                tls.sendall(HELLO)
                assert tls.recv(64).startswith(b"HTTP/1.1 200")
        assert hung_up_on(silent) >= 1


# The whole server, which may open few files


@dataclass
class Server:
    """A server in a process of its own."""

    folder: ServerFolder
    process: int

    @property
    def ports(self) -> Ports:
        return self.folder.settings.ports

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process}/fd").iterdir()))

    def limit(self) -> int:
        text = Path(f"/proc/{self.process}/limits").read_text(encoding="ascii")
        return int(text.partition("Max open files")[2].split()[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path, first = tmp_path_factory.mktemp("consortium") / "server", free_ports()
    ports = Ports(enrolment=first, consortium=first + 1, fleet=first + 2)
    settings = Settings(name="c", address="localhost", listen=LOOPBACK, ports=ports)
    folder = ServerFolder.create(path, settings, [LOOPBACK])
    log = path.with_suffix(".log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(path), str(FEW_FILES)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n", log.read_text()
        yield Server(folder, process.pid)
        process.terminate()
    assert "cannot be accepted" not in log.read_text()


def reaches(server: Server, site: Path) -> bool:
    """Say whether a hospital's node reaches the gate; what it asks for is not there."""
    fleet = (LOOPBACK, server.ports.fleet)
    with (
        socket.create_connection(fleet, LONG_S) as plain,
        tls_context(site).wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(HELLO)
        return tls.recv(64).startswith(b"HTTP/1.1 404")


def test_a_server_takes_the_files_it_may_and_needs_no_more_whoever_knocks(
    server: Server, tmp_path: Path
) -> None:
    account: dict[str, Any] = {"delta": 1e-5, "epsilon_cap": 3.0}
    assert server.limit() == FEW_FILES
    invitation = invite_site(server.folder, "h", 1)
    join(tmp_path / "h", invitation, accounts=tmp_path / "accounts.sqlite", **account)
    assert reaches(server, tmp_path / "h")
    most = 0
    with ExitStack() as stack:
        silent = []
        for port in server.ports.model_dump().values():
            silent += stack.enter_context(strangers(port, 300))
            most = max(most, server.open_files())
            assert reaches(server, tmp_path / "h")
        wait_until_hung_up_on(silent, 600)
        assert reaches(server, tmp_path / "h")
    assert most < FEW_FILES - descriptors.OWN_FILES // 2
    with ConsortiumClient.open(tmp_path / "h") as client:
        assert client.status().name == "h"
    other = invite_site(server.folder, "other", 1)
    join(tmp_path / "other", other, accounts=tmp_path / "others.sqlite", **account)


def test_the_services_end_handshakes_that_take_too_long(server: Server) -> None:
    for port in (server.ports.enrolment, server.ports.consortium):
        with strangers(port, 3) as silent:
            wait_until_hung_up_on(silent, 3)


@pytest.mark.parametrize("files", [FEW_FILES, 1024, 4096, 65536])
def test_all_listeners_together_keep_within_the_limit(
    monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    monkeypatch.setattr(descriptors, "file_limit", lambda: files)
    parts = vars(descriptors.connections())
    assert sum(parts.values()) + descriptors.OWN_FILES <= files
    assert min(parts.values()) >= 30


def test_a_server_that_may_open_too_few_files_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descriptors, "file_limit", lambda: descriptors.LEAST_FILES - 1)
    with pytest.raises(ServerError) as caught:
        descriptors.raise_limit()
    assert caught.value.code == Code.SERVER_START
    assert "LimitNOFILE" in caught.value.remedy
