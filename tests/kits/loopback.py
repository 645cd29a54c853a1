"""A consortium on loopback in this process: real gRPC, real TLS, real SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.join import join
from polyclinic_client.consortium.participation import add_data, approve, find_study, propose
from polyclinic_client.consortium.peers import verify_peer
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_common.consortium.invitation import Invitation
from polyclinic_common.identity.site_key import fingerprint
from polyclinic_common.study.manifest import Study
from polyclinic_server.consortium.invite import invite_site
from polyclinic_server.consortium.publish import publish_study
from polyclinic_server.folder import Ports, ServerFolder, Settings
from polyclinic_server.service.serve import ConsortiumHandle, serve_consortium
from tests.kits.clock import AheadClock
from tests.kits.small import small_study, small_table
from tests.kits.typed_consortium import MAPPING, as_extract, free_ports


class Loopback:
    """A server, and hospitals each in its folder."""

    def __init__(self, folder: Path, hospitals: int = 3):
        self.folder = folder
        self.names = [f"site {index}" for index in range(hospitals)]
        first = free_ports()
        ports = Ports(enrolment=first, consortium=first + 1, fleet=first + 2)
        settings = Settings(
            name="Test consortium", address="localhost", listen="127.0.0.1", ports=ports
        )
        self.server = ServerFolder.create(folder / "server", settings, ["127.0.0.1"])
        self.clock = AheadClock()
        self.handle: ConsortiumHandle = serve_consortium(self.server, self.clock)

    def stop(self) -> None:
        self.handle.stop()

    def restart(self) -> None:
        self.handle.stop()
        self.handle = serve_consortium(self.server, self.clock)

    def path(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")

    def invite(self, name: str, hours: int = 1) -> Invitation:
        return invite_site(self.server, name, hours)

    def join(self, name: str, **more: Any) -> Path:
        account: dict[str, Any] = {"delta": 1e-5, "epsilon_cap": 3.0} | more
        account.setdefault("accounts", self.accounts(name))
        join(self.path(name), self.invite(name), **account)
        return self.path(name)

    def accounts(self, name: str) -> Path:
        """Return the registry of a hospital's own machine."""
        return self.folder / "accounts" / f"{self.path(name).name}.sqlite"

    def join_all(self) -> None:
        for name in self.names:
            self.join(name)

    def client(self, name: str) -> ConsortiumClient:
        return ConsortiumClient.open(self.path(name))

    @contextmanager
    def at(self, name: str) -> Iterator[tuple[SiteFolder, ConsortiumClient]]:
        with SiteFolder.open(self.path(name)) as site, self.client(name) as client:
            yield site, client

    def verify(self, name: str, other: str) -> None:
        with self.client(name) as client:
            shown = fingerprint(read_identity(self.path(other)).public)
            verify_peer(self.path(name), client, other, shown)

    def verify_all(self) -> None:
        for name in self.names:
            for other in self.names:
                if other != name:
                    self.verify(name, other)

    def publish(self, study: Study | None = None) -> Study:
        study = study or small_study(sites=len(self.names))
        publish_study(self.server, study)
        return study

    def add(self, name: str, word: str = "small-binary", patients: int = 60) -> int:
        extract, mapping = self.folder / "extract.csv", self.folder / "map.toml"
        frame = small_table(patients, 1, seed=self.names.index(name))
        as_extract(frame).to_csv(extract, index=False)
        mapping.write_text(MAPPING, encoding="utf-8")
        with self.at(name) as (site, client):
            report, declared = add_data(site, client, find_study(client, word), extract, mapping)
        report.require_usable()
        return declared

    def approve(self, name: str, word: str = "small-binary") -> None:
        with self.at(name) as (site, client):
            approve(site, client, propose(site, client, find_study(client, word).hash))

    def approve_all(self, word: str = "small-binary") -> None:
        for name in self.names:
            self.add(name, word)
        for name in self.names:
            self.approve(name, word)
