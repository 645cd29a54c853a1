"""The node's health endpoint: HTTP on a Unix socket in its folder, so that no port is opened.

``curl --unix-socket FOLDER/health.sock http://node/health`` answers 200 while the node is connected
and 503 while it is not, each with the node's status as JSON.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

from polyclinic_client.node.status import read_status

SOCKET = "health.sock"
SLOW_S = 5.0


@contextmanager
def health(folder: Path) -> Iterator[None]:
    """Answer who asks how the node in this folder is, while the block runs."""
    place = folder / SOCKET
    place.unlink(missing_ok=True)  # of a node that was killed
    with _listening(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            place.unlink(missing_ok=True)


@contextmanager
def _listening(folder: Path) -> Iterator[_Server]:
    """Listen in a folder, named by a descriptor: the path of a socket has 107 bytes (unix(7))."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with _Server(f"/proc/self/fd/{handle}/{SOCKET}", folder) as server:
            yield server
    finally:
        os.close(handle)


class _Server(ThreadingUnixStreamServer):
    """Takes connections."""

    daemon_threads = True

    def __init__(self, address: str, site: Path):
        super().__init__(address, _Answer)
        self.site = site

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: whoever asked has hung up."""


class _Answer(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: _Server
    timeout = SLOW_S

    def do_GET(self) -> None:
        """Say how the node is."""
        status = read_status(self.server.site)
        if self.path != "/health" or status is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = status.model_dump_json().encode()
        well = status.connected
        self.send_response(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing: whoever watches asks every few seconds."""
