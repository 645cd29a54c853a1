"""A throw-away consortium on loopback: certificates, hospital folders, real processes, real TLS."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding as KeyEncoding,
)
from cryptography.hazmat.primitives.serialization import (
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from polyclinic_client.folder.layout import JOURNAL, read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Approval
from polyclinic_client.records.journal import Journal
from polyclinic_client.run.approved_study import approved_with
from polyclinic_client.study_book.price import planned_releases
from polyclinic_client.worker.site_book import SiteBook
from polyclinic_common.identity.roster import Roster
from polyclinic_common.study.manifest import Study
from polyclinic_server.runs.folder import Event, RunDescription, RunFolder, RunSite
from tests.kits.small import small_study, small_table

ROOT = Path(__file__).parents[2]
PATIENTS_A_SITE = 40
PATIENCE_S = 30.0
LONG_S = 120.0  # for what takes seconds on a quiet machine
SUMS, MAY_CLOSE = "sums.jsonl", "may-close"  # of a coordinator that is witnessed
QUICK_S = 2.0  # what a server of a test for slow requests waits, instead of ten or twenty seconds


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def node_key(self) -> str:
        shown = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        public = shown.public_key()
        return public.public_bytes(KeyEncoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "consortium"):
        self.folder = folder
        self.name = name
        self.key = ec.generate_private_key(ec.SECP384R1())
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.sign(name, self.key, ca=True).public_bytes(KeyEncoding.PEM))

    def sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        server: bool = False,
        days: tuple[float, float] = (-1, 30),
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(name))
            .issuer_name(name_of(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not ca,
                    key_cert_sign=ca,
                    crl_sign=ca,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                True,
            )
        )
        if not ca:
            import ipaddress

            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False).add_extension(
                x509.SubjectAlternativeName(names), False
            )
        return builder.sign(self.key, hashes.SHA384())

    def issue(self, name: str, **more: Any) -> Pair:
        key = ec.generate_private_key(ec.SECP384R1())
        pair = Pair(self.folder / f"{name}.cert.pem", self.folder / f"{name}.key.pem")
        pair.certificate.write_bytes(self.sign(name, key, **more).public_bytes(KeyEncoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(KeyEncoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return pair


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.05)


@dataclass
class Process:
    """A real process of the consortium, with its output in a file."""

    module: str
    arguments: Sequence[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | self.environment,
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.popen is not None
        self.popen.send_signal(number)
        return self.popen.wait(timeout=15)

    @property
    def children(self) -> list[int]:
        """Process numbers of its child processes (proc(5))."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(number) for number in listed.split()]

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid


class Consortium:
    """A server and hospitals, each in its folder."""

    def __init__(
        self,
        folder: Path,
        *,
        sites: int = 4,
        rounds: int = 5,
        runs: Sequence[str] = ("run-1",),
        changes: dict[str, Any] | None = None,
    ):
        self.folder = folder
        self.authority = Authority(folder / "ca")
        self.names = [f"site {index}" for index in range(sites)]
        sections: dict[str, Any] = {"training": {"rounds": rounds}, "privacy": {"epsilon": 4.0}} | (
            changes or {}
        )
        self.study = small_study("continuous", sites=sites, **sections)
        self.runs = tuple(runs)
        self.pairs = {name: self.authority.issue(name.replace(" ", "-")) for name in self.names}
        self.server_pair = self.authority.issue("server", server=True)
        self.declared = dict.fromkeys(self.names, PATIENTS_A_SITE)
        self.revoked = folder / "revoked.txt"
        self.revoked.touch()
        self.port = 0
        self.processes: dict[str, Process] = {}
        for name in self.names:
            self._found(name)

    def site_folder(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-")

    def _found(self, name: str) -> None:
        planned = planned_releases(self.study, self.declared, name)
        folder = self.site_folder(name)
        with SiteFolder.create(folder, delta=self.study.privacy.delta, epsilon_cap=90.0) as made:
            for run in self.runs:
                approval = Approval(
                    study_hash=bytes.fromhex(self.study.hash()),
                    run=run,
                    planned=planned,
                    lost_rounds=self.study.training.rounds,
                    expires=self.study.expires,
                )
                made.ledger.approve(approval)
        told = {
            "study": self.study.model_dump_json(),
            "runs": self.runs,
            "name": name,
            "names": self.names,
        }
        (folder / "approved.json").write_text(json.dumps(told))

    def start_server(
        self,
        *,
        quick: bool = False,
        passive: bool = False,
        witnessed: bool = False,
        hasty: bool = False,
    ) -> None:
        """Start the server.

        With short limits; or without a coordinator, for a test that is it; or with one that writes
        down all sums and closes a run only when it may; or with a Flower that waits half a second
        for a coordinator, not half a minute.
        """
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        settings = {
            "folder": str(self.folder / "server"),
            "certificate": str(self.server_pair.certificate),
            "key": str(self.server_pair.key),
            "authority": str(self.authority.path),
            "port": self.port,
            "revoked": str(self.revoked),
            "ready": str(ready),
            "quick_s": QUICK_S if quick else 0,
            "passive": passive,
            "witnessed": witnessed,
            "hasty": hasty,
        }
        self._start("server", "tests.kits.run_server", [json.dumps(settings)])
        wait_for("server", ready.exists, LONG_S)
        addresses = json.loads(ready.read_text())
        self.public, self.loopback = addresses["public"], addresses["loopback"]
        self.port = int(self.public.rpartition(":")[2])

    def start_node(
        self, name: str, address: str = "", dies: tuple[str, int] | None = None, **environment: str
    ) -> None:
        """Start a node; it may be one that dies before it sends its vector of a run and round."""
        pair = self.pairs[name]
        settings = {
            "folder": str(self.site_folder(name)),
            "address": address or f"127.0.0.1:{self.port}",
            "certificate": str(pair.certificate),
            "key": str(pair.key),
            "authority": str(self.authority.path),
            "dies": dies,
        }
        self._start(name, "tests.kits.run_node", [json.dumps(settings)], environment)

    def _start(
        self,
        name: str,
        module: str,
        arguments: list[str],
        environment: dict[str, str] | None = None,
    ) -> None:
        log = self.folder / f"{name}.log"
        self.processes[name] = Process(module, arguments, log, environment or {})
        self.processes[name].start()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def kill(self, name: str) -> None:
        """kill -9, and nothing is tidied up."""
        self.processes.pop(name).end(signal.SIGKILL)

    def stop(self) -> None:
        for name in [*self.names, "server"]:
            if name in self.processes:
                self.processes.pop(name).end()

    def describe(self, run: str, **changes: Any) -> RunDescription:
        sites = {
            name: RunSite(
                node_key=self.pairs[name].node_key,
                declared=self.declared[name],
                held_out=0,
                identity=read_identity(self.site_folder(name)).public.hex(),
            )
            for name in self.names
        }
        fields = {
            "run": run,
            "study": self.study.model_dump_json(),
            "sites": sites,
            "largest": PATIENTS_A_SITE,
            "fewest": self.study.m,
            "patience_s": PATIENCE_S,
        } | changes
        return RunDescription(**fields)

    @property
    def server_folder(self) -> Path:
        return self.folder / "server"

    def journal(self, name: str) -> list[Any]:
        folder = self.site_folder(name)
        with Journal.open(folder / JOURNAL, read_identity(folder), read_only=True) as journal:
            return [noted.event for noted in journal.events()]


def wait_for_event(
    run: RunFolder, what: str, number: int | None = None, seconds: float = LONG_S
) -> Event:
    """Wait until a run has noted an event of a kind, of a round if `number` is given."""

    def found() -> list[Event]:
        events = [event for event in run.events() if event.what == what]
        return [event for event in events if number is None or event.round == number]

    wait_for(f"{what} {number or ''}", lambda: bool(found()) or failed(run), seconds)
    assert found(), run.events()[-1]
    return found()[-1]


def failed(run: RunFolder) -> bool:
    events = run.events()
    return bool(events) and events[-1].what == "failed"


@contextmanager
def consortium(folder: Path, **more: Any) -> Iterator[Consortium]:
    made = Consortium(folder, **more)
    try:
        yield made
    finally:
        made.stop()


def open_site(folder: Path) -> SiteBook:
    """Open what one hospital of the kit approved: called by name in the worker."""
    told = json.loads((folder / "approved.json").read_text())
    study = Study.model_validate_json(told["study"])
    names = told["names"]
    table = small_table(PATIENTS_A_SITE * len(names), sites=len(names))
    rows = table[table["hospital"] == told["name"]]
    keys = {name: read_identity(folder.parent / name.replace(" ", "-")).public for name in names}
    roster = Roster.of(keys)
    declared = dict.fromkeys(names, PATIENTS_A_SITE)
    verified = frozenset(roster.identities)
    approved = approved_with(study, roster, verified, declared, told["name"], lambda: rows)
    return SiteBook(SiteFolder.open(folder), {study.hash(): approved}.get)


def key_of(pair: Pair) -> EllipticCurvePrivateKey:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key
