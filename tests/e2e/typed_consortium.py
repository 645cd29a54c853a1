"""A consortium made by typing: an operator's and hospitals' commands in subprocesses, real TLS."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.peers import verify_peer
from polyclinic_client.site_folder import read_identity
from polyclinic_common.secure_sum.identity import fingerprint
from polyclinic_common.study.load import parse_study
from tests.conftest import small_table, study_data

COMMAND = Path(sys.executable).with_name("polyclinic")
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


class Typed:
    """What a command did."""

    def __init__(self, *words: object, typed: str = ""):
        done = subprocess.run(
            [COMMAND, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            input=typed,
            env=os.environ | {"COLUMNS": "160"},
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.out + self.err, self.err

    @property
    def error(self) -> tuple[str, str]:
        """Code and remedy of the error, with `--json`."""
        found = json.loads(self.err.splitlines()[-1])
        return found["error"], found["remedy"]


def answer(*words: object, typed: str = "") -> Any:
    done = Typed(*words, "--json", typed=typed)
    assert done.status == 0, done.err
    return json.loads(done.out)


def refusal(*words: object, typed: str = "") -> tuple[str, str]:
    done = Typed(*words, "--json", typed=typed)
    assert done.status != 0, done.out
    return done.error


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
        self.process: subprocess.Popen[str] | None = None
        self.made = self.operate("init", "Test consortium", "localhost", *self.listening)

    @property
    def listening(self) -> tuple[object, ...]:
        return ("--first-port", self.port, "--listen", "127.0.0.1", "--also", "127.0.0.1")

    def operate(self, *words: object) -> Any:
        return answer("server", *words, "--folder", self.server)

    def up(self) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "server", "up", "--folder", self.server, "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ready = "".join(iter(self.process.stdout.readline, "}\n"))
        assert '"ready": true' in ready

    def down(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(timeout=20) == 0
            self.process = None

    def site(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")

    def invite(self, name: str, *more: object) -> str:
        return str(self.operate("site", "invite", name, *more)["invitation"])

    def join(self, name: str) -> Any:
        invitation = self.invite(name)
        return answer("client", "join", invitation, "--yes", "--site", self.site(name))

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
