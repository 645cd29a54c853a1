"""An operator and hospitals on loopback: from an invitation to a released model."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from polyclinic_common.errors import Code, SimulationError
from polyclinic_common.study.manifest import Study
from polyclinic_simulations.federation.federation import spread
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.studies import resolve
from polyclinic_simulations.try_out.commands import Commands

HOSPITALS = 4
STUDY = "gbsg2"
PORTS = 3
LAST_EVENTS = 6


@dataclass(frozen=True)
class Trial:
    """What a trial left behind.

    Attributes
    ----------
    study : Study
        What was trained.
    run : dict
        What `server run start` answered.
    budgets : dict
        What `client ledger budget` answers, by hospital.
    shown : tuple of str
        Budget and end of the journal of one hospital, as its people see them.
    """

    study: Study
    run: dict[str, Any]
    budgets: dict[str, dict[str, Any]]
    shown: tuple[str, ...]


class TrialConsortium:
    """A server and four hospitals in one folder.

    Parameters
    ----------
    folder : Path
        Everything lies in it; a fresh one.
    commands : Commands
        What types.

    Attributes
    ----------
    server : Path
        The server's folder.
    """

    def __init__(self, folder: Path, commands: Commands):
        self._folder = folder
        self._type = commands
        self.server = folder / "server"
        self.study, self._tables = _study_and_tables()

    def carry_out(self) -> Trial:
        """Go the whole way, as the README tells operator and hospitals."""
        self.prepare()
        run = self.train()
        budgets = {name: self._client(name, "ledger", "budget") for name in self._tables}
        return Trial(self.study, run, budgets, self._shown(self.study.roster.sites[0]))

    def prepare(self) -> None:
        """Go as far as nodes of hospitals that have approved the study."""
        self._found()
        self._join()
        self._publish_and_approve()
        for name in self._tables:
            self._type.start(name, "client", "up", *self._at(name))

    def train(self) -> dict[str, Any]:
        """Run the study and return what `server run start` answers at the end."""
        run: dict[str, Any] = self._operate("run", "start", self.study.id)
        return run

    def _found(self) -> None:
        port = _free_ports()
        where = ("--listen", "127.0.0.1", "--first-port", port)
        self._operate("init", "Trial consortium", "localhost", *where)
        log = self._type.start("server", "server", "up", "--folder", self.server)
        self._type.wait_for(log, "Ready")

    def _join(self) -> None:
        for name in self._tables:
            invitation = self._operate("site", "invite", name)["invitation"]
            # They play hospitals of their own: each has a machine's registry of accounts.
            accounts = self._folder / "accounts" / f"{name}.sqlite"
            self._client(name, "join", invitation, "--yes", "--accounts", accounts)
        prints = {name: self._client(name, "status")["fingerprint"] for name in self._tables}
        for name in self._tables:
            for peer in self._tables:
                if peer != name:
                    self._client(name, "peers", "verify", peer, prints[peer])

    def _publish_and_approve(self) -> None:
        manifest = self._folder / f"{self.study.id}.toml"
        data = self.study.model_dump(mode="python", exclude_none=True)
        manifest.write_text(tomli_w.dumps(_plain(data)), encoding="utf-8")
        self._operate("study", "publish", manifest)
        for name, table in self._tables.items():
            extract = self._folder / f"{name}.csv"
            table.to_csv(extract, index=False)
            self._client(name, "data", "add", self.study.id, extract, "--yes")
        for name in self._tables:
            self._client(name, "study", "approve", self.study.id, "--yes")

    def _shown(self, name: str) -> tuple[str, ...]:
        budget = self._type.text("client", "ledger", "budget", *self._at(name))
        last = ("--last", LAST_EVENTS)
        return budget, self._type.text("client", "journal", "show", *last, *self._at(name))

    def _operate(self, *words: object) -> Any:
        return self._type.run("server", *words, "--folder", self.server)

    def _client(self, name: str, *words: object) -> Any:
        return self._type.run("client", *words, *self._at(name))

    def _at(self, name: str) -> tuple[object, ...]:
        return "--site", self._folder / name


def _study_and_tables() -> tuple[Study, dict[str, pd.DataFrame]]:
    """Return the study with four hospitals, and every hospital's table."""
    study, frame = resolve(STUDY, None)
    study = Setting("secure-sum", study.privacy.epsilon, "descent", HOSPITALS).apply(study)
    frame = spread(study, frame, HOSPITALS)
    sites = frame[study.cohort.site]
    return study, {name: frame[sites == name] for name in study.roster.sites}


def _plain(value: Any) -> Any:
    """Return plain data with lists for tuples, as TOML is written from."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
    return value


def _free_ports() -> int:
    """Return the first of some free ports in a row."""
    for first in range(27640, 60000, PORTS):
        held = [socket.socket() for _ in range(PORTS)]
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
    raise SimulationError(
        Code.TRY_FAILED, "No free ports were found on this machine.", "Stop what listens there."
    )
