"""A consortium made by typing: an operator's and hospitals' commands in subprocesses, real TLS."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.participation import add_data, approve, find_study, propose
from polyclinic_client.consortium.peers import verify_peer
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_common.identity.site_key import fingerprint
from polyclinic_common.study.load import parse_study
from tests.kits.small import small_table, study_data
from tests.kits.typed import Running, answer, refusal

MAPPING = """
[columns.patient]
source = "PID"
[columns.age]
source = "Age"
[columns.sex]
source = "Gender"
codes = { "1" = "female", "2" = "male" }
[columns.response]
source = "Resp"
"""


def free_ports() -> int:
    """Return the first of three free ports in a row."""
    for first in range(21000 + os.getpid() % 20000, 60000, 7):
        held = [socket.socket() for _ in range(3)]
        try:
            for offset, each in enumerate(held):
                each.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first
        finally:
            for each in held:
                each.close()
    raise AssertionError("no free ports")


class TypedConsortium:
    """A server and hospitals in one folder, each reached by its commands alone."""

    def __init__(self, folder: Path, hospitals: int = 3):
        self.folder = folder
        self.server = folder / "server"
        self.names = [f"site {index}" for index in range(hospitals)]
        self.port = free_ports()
        self.process: Running | None = None
        self.nodes: dict[str, Running] = {}
        self.made = self.operate("init", "Test consortium", "localhost", *self.listening)

    @property
    def listening(self) -> tuple[object, ...]:
        return ("--first-port", self.port, "--listen", "127.0.0.1", "--also", "127.0.0.1")

    def operate(self, *words: object) -> Any:
        return answer("server", *words, "--folder", self.server)

    def up(self) -> None:
        log = self.folder / f"server-{time.monotonic_ns()}.log"
        self.process = Running(log, "server", "up", "--folder", self.server, "--json")
        self.process.wait_for('"ready": true')

    def down(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill_server(self) -> None:
        """kill -9 of everything that the server started."""
        assert self.process is not None
        assert self.process.signal(signal.SIGKILL) == -signal.SIGKILL
        self.process = None

    def node_up(self, *names: str) -> None:
        for name in names:
            log = self.folder / f"{self.site(name).name}-{time.monotonic_ns()}.log"
            self.nodes[name] = Running(log, "client", "up", "--site", self.site(name))
        for name in names:
            self.nodes[name].wait_for('"connected"')

    def node_down(self, *names: str) -> None:
        for name in names:
            self.nodes.pop(name).stop()

    def kill_node(self, name: str) -> None:
        assert self.nodes.pop(name).signal(signal.SIGKILL) == -signal.SIGKILL

    def site(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")

    def invite(self, name: str, *more: object) -> str:
        return str(self.operate("site", "invite", name, *more)["invitation"])

    def join(self, name: str, *more: object) -> Any:
        invitation, site = self.invite(name), self.site(name)
        own = ("--site", site, "--accounts", self.accounts(name))
        return answer("client", "join", invitation, "--yes", *own, *more)

    def accounts(self, name: str) -> Path:
        """Return the registry of a hospital's own machine."""
        return self.folder / "accounts" / f"{self.site(name).name}.sqlite"

    def at(self, name: str, *words: object) -> Any:
        return answer("client", *words, "--site", self.site(name))

    def refused_at(self, name: str, *words: object) -> tuple[str, str]:
        return refusal("client", *words, "--site", self.site(name))

    def verify_all(self) -> None:
        """Let all know each other: the first hospital types it, the others call what it calls."""
        first, *others = self.names
        for other in others:
            self.at(first, "peers", "verify", other, self.fingerprint(other))
        for name in others:
            with ConsortiumClient.open(self.site(name)) as client:
                for peer in set(self.names) - {name}:
                    verify_peer(self.site(name), client, peer, self.fingerprint(peer))

    def fingerprint(self, name: str) -> str:
        """Return what a hospital's people read out."""
        return fingerprint(read_identity(self.site(name)).public)

    def study_file(self, **changes: Any) -> Path:
        data = study_data("binary", len(self.names), **changes)
        parse_study(data, "study.toml")
        path = self.folder / f"{data['id']}.toml"
        path.write_text(as_toml(data), encoding="utf-8")
        assert tomllib.loads(path.read_text(encoding="utf-8"))
        return path

    def offer(self, **changes: Any) -> str:
        """Publish a study to which every hospital then adds its data; return its id."""
        study = self.study_file(**changes)
        self.operate("study", "publish", study)
        for name in self.names:
            table, mapping = self.extract(name)
            with self.opened(name) as (site, client):
                add_data(site, client, find_study(client, study.stem), table, mapping)
        return study.stem

    def approve(self, study: str, *names: str) -> None:
        """Let hospitals approve a study: what `client study approve` calls."""
        for name in names or self.names:
            with self.opened(name) as (site, client):
                approve(site, client, propose(site, client, find_study(client, study).hash))

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[SiteFolder, ConsortiumClient]]:
        path = self.site(name)
        with SiteFolder.open(path) as site, ConsortiumClient.open(path) as client:
            yield site, client

    def extract(self, name: str, patients: int = 60) -> tuple[Path, Path]:
        """Write a hospital's extract and its mapping."""
        frame = small_table(patients, 1, seed=self.names.index(name))
        path, mapping = self.folder / f"{self.site(name).name}.csv", self.folder / "map.toml"
        as_extract(frame).to_csv(path, index=False)
        mapping.write_text(MAPPING, encoding="utf-8")
        return path, mapping


def as_extract(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "PID": frame["patient"],
            "Age": frame["age"],
            "Gender": frame["sex"].map({"female": "1", "male": "2"}),
            "Resp": frame["response"],
            "SECRET": "not in the contract",
        }
    )


def as_toml(data: dict[str, Any]) -> str:
    """Write plain data as TOML, with inline tables."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in data.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
