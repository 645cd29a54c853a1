"""A forward proxy in this process."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy(threading.Thread):
    """An HTTP proxy that knows CONNECT alone and counts what it connects."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.connected: list[str] = []
        self.heads: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(
                    target=self.relay, args=(self.listener.accept()[0],), daemon=True
                ).start()

    def relay(self, inside: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += inside.recv(1)
        method, target, _ = head.split(b" ", 2)
        assert method == b"CONNECT"
        host, _, port = target.decode().rpartition(":")
        self.connected.append(target.decode())
        self.heads.append(head)
        try:
            outside = socket.create_connection((host, int(port)))
        except OSError:
            inside.sendall(b"HTTP/1.1 502 Bad gateway\r\n\r\n")
            inside.close()
            return
        inside.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=pour, args=(outside, inside), daemon=True).start()
        pour(inside, outside)


def pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
