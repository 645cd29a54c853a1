"""The folder of a server: its settings, keys, certificates and store."""

from __future__ import annotations

import glob
import json
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from polyclinic_common.consortium.address import (
    LARGEST_PORT,
    read_host,
    require_reachable,
)
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.files import decoded
from polyclinic_common.identity import certificates
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.modes import make_private, require_private
from polyclinic_common.study.base import Part, Text
from polyclinic_common.text import tidy
from polyclinic_server.store.store import Store

CONFIG = "config.toml"
AUTHORITY_KEY, AUTHORITY = "authority.key", "authority.pem"
SERVER_KEY, SERVER = "server.key", "server.pem"
OPERATOR_KEY = "operator.key"
STORE = "store.sqlite"
LONGEST_NAME = 200  # letters of a consortium's name
Port = Annotated[int, Field(ge=1, le=LARGEST_PORT)]


class Ports(Part):
    """Where the server listens: enrolment without, the others with a client certificate."""

    enrolment: Port = 7640
    consortium: Port = 7641
    fleet: Port = 7642


class Settings(Part):
    """What stands in ``config.toml``.

    Attributes
    ----------
    name : str
        Name of the consortium.
    address : str
        DNS name or IP address under which hospitals reach the server.
    listen : str
        Local address to listen on.
    database : str
        URL of the store; empty means the SQLite file in the folder.
    authority_key : str
        Where the authority's key lies, seen from the folder; it may be absent while nobody joins.
    """

    name: Annotated[Text, Field(min_length=1, max_length=LONGEST_NAME)]
    address: str = Field(min_length=1, max_length=253)
    listen: str = "0.0.0.0"  # noqa: S104  (hospitals call from outside)
    ports: Ports = Ports()
    database: str = ""
    authority_key: str = AUTHORITY_KEY

    def text(self) -> str:
        """Return the file's text."""
        ports = "\n".join(f"{name} = {port}" for name, port in self.ports.model_dump().items())
        return f"""\
# Settings of a Polyclinic server. Restart `polyclinic server up` after a change.
name = {json.dumps(self.name)}
address = {json.dumps(self.address)}    # what hospitals call; stands in the server's certificate
listen = {json.dumps(self.listen)}
database = {json.dumps(self.database)}  # empty: store.sqlite here; else a SQLAlchemy URL
authority_key = {json.dumps(self.authority_key)}  # may be taken away while nobody joins

[ports]
{ports}
"""


def settings_of(name: str, address: str, listen: str, first_port: int) -> Settings:
    """Return the settings of a new server, from what a person typed.

    Parameters
    ----------
    first_port : int
        First of three ports in a row.

    Raises
    ------
    ConsortiumError
        C031 with what cannot be used, and why.
    """
    host = require_reachable(read_host(address))
    seen = tidy(name)
    if not 0 < len(seen) <= LONGEST_NAME:
        raise ConsortiumError(
            Code.ADDRESS_INVALID,
            f"A consortium cannot have a name of {len(seen)} letters.",
            f"Give it a name of 1 to {LONGEST_NAME} letters.",
        )
    last = LARGEST_PORT - len(Ports.model_fields) + 1
    if not 1 <= first_port <= last:
        raise ConsortiumError(
            Code.ADDRESS_INVALID,
            f"{first_port} cannot be the first of three ports in a row.",
            f"Choose --first-port from 1 to {last}.",
        )
    ports = Ports(enrolment=first_port, consortium=first_port + 1, fleet=first_port + 2)
    return Settings(name=seen, address=host, listen=read_host(listen), ports=ports)


@dataclass(frozen=True)
class ServerFolder:
    """The folder of a server; made by `create` or `open`."""

    path: Path
    settings: Settings

    @staticmethod
    def create(path: Path, settings: Settings, hosts: Sequence[str] = ()) -> ServerFolder:
        """Make authority, server certificate, operator's key, store and settings.

        Parameters
        ----------
        hosts : sequence of str
            Further DNS names and IP addresses of the server.

        Raises
        ------
        ConsortiumError
            C001 if there is anything in that folder, C003 if it cannot be written to, C029 if it
            belongs to another user, C031 if a name or address is none.
        """
        known = list(dict.fromkeys(require_reachable(read_host(host)) for host in hosts))
        try:
            make_private(path)
            if any(path.iterdir()):
                raise ConsortiumError(
                    Code.SERVER_EXISTS,
                    f"There is something in {path} already, and it is left as it is.",
                    "Use it, or name another folder with --folder.",
                )
            _write_keys(path, settings, known)
            (path / CONFIG).write_text(settings.text(), encoding="utf-8")
        except OSError as error:
            raise ConsortiumError(
                Code.CONSORTIUM_FILE,
                f"The folder {path} cannot be used ({error.strerror}).",
                "Check the path, its permissions and free space.",
            ) from None
        folder = ServerFolder(path, settings)
        folder.open_store().close()
        return folder

    @staticmethod
    def open(path: Path) -> ServerFolder:
        """Open the folder of a server.

        Raises
        ------
        ConsortiumError
            C002 if there is none, C003 if its settings are not valid.
        """
        file = path / CONFIG
        if not file.is_file():
            raise ConsortiumError(
                Code.SERVER_ABSENT,
                f"There is no server in {path}.",
                "Make one with `polyclinic server init`, or name its folder with --folder.",
            )
        try:
            data = tomllib.loads(decoded(file.read_bytes()))
            return ServerFolder(path, Settings.model_validate(data))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
            where = _where(error) if isinstance(error, ValidationError) else str(error)
            raise ConsortiumError(
                Code.CONSORTIUM_FILE,
                f"The settings in {file} are not valid: {where}.",
                "Mend the file and start again.",
            ) from None

    def require_private(self) -> None:
        """Refuse to serve from a folder that others may look into.

        Raises
        ------
        ConsortiumError
            C029 with the command that mends it.
        """
        away = glob.escape(self.settings.authority_key)  # may lie in another folder
        require_private(self.path, (SERVER_KEY, OPERATOR_KEY, away))

    @cached_property
    def authority_certificate(self) -> certificates.Certificate:
        """The authority's certificate."""
        return certificates.read_certificate(self.path / AUTHORITY)

    @cached_property
    def operator(self) -> Identity:
        """The operator's key: signs studies and models.

        Raises
        ------
        ConsortiumError
            C003 if it is not there.
        """
        file = self.path / OPERATOR_KEY
        try:
            return Identity.from_private(file.read_bytes())
        except (OSError, ValueError):
            raise ConsortiumError(
                Code.CONSORTIUM_FILE,
                f"{file} does not hold the operator's key, or cannot be read.",
                "Put the file back from a copy.",
            ) from None

    def authority(self) -> certificates.Authority:
        """Return the authority with its key.

        Raises
        ------
        ConsortiumError
            C004 if the key lies elsewhere now.
        """
        key = self.path / self.settings.authority_key
        if not key.is_file():
            raise ConsortiumError(
                Code.AUTHORITY_AWAY,
                "The authority's key is not on the server, so no certificate can be made.",
                "Ask the operator to put it back for as long as hospitals join.",
            )
        return certificates.Authority(certificates.read_key(key), self.authority_certificate)

    def open_store(self, clock: Callable[[], float] = time.time) -> Store:
        """Return the store, its schema up to date; `clock` tells Unix time in seconds."""
        default = f"sqlite:///{(self.path / STORE).absolute()}"
        return Store(self.settings.database or default, clock)


def _write_keys(path: Path, settings: Settings, hosts: Sequence[str]) -> None:
    authority, key = certificates.Authority.create(settings.name), certificates.generate_key()
    certificate = authority.certify_server(key.public_key(), [settings.address, *hosts])
    certificates.write_private(path / settings.authority_key, certificates.key_pem(authority.key))
    certificates.write_private(path / SERVER_KEY, certificates.key_pem(key))
    certificates.write_private(path / OPERATOR_KEY, Identity.generate().private)
    (path / AUTHORITY).write_bytes(certificates.pem(authority.certificate))
    (path / SERVER).write_bytes(certificates.pem(certificate))


def _where(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
