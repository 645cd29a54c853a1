"""What a site's folder holds of its consortium: certificates, operator's key, verified peers."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic_client.records.sqlite_file import MODE
from polyclinic_common.consortium.address import host_port
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.files import write_atomically
from polyclinic_common.identity import certificates

MEMBERSHIP = "consortium.json"
TLS_KEY, TLS, AUTHORITY = "tls.key", "tls.pem", "authority.pem"
PEERS = "peers.json"
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]


class Membership(BaseModel):
    """What a hospital learnt when it joined, over the connection that the invitation vouched for.

    Attributes
    ----------
    name : str
        This hospital's name in the consortium.
    consortium : str
        The consortium's name.
    host, enrolment_port, port, fleet_port
        Where the server listens.
    operator_key : bytes
        Signs studies and models; pinned from here on.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex"
    )

    name: str
    consortium: str
    host: str
    enrolment_port: int
    port: int
    fleet_port: int
    operator_key: Digest

    @property
    def address(self) -> str:
        """Host and port of the consortium service."""
        return host_port(self.host, self.port)

    def write(self, folder: Path) -> None:
        """Write it to a site's folder."""
        write_atomically(folder / MEMBERSHIP, self.model_dump_json(indent=2).encode())

    @staticmethod
    def read(folder: Path) -> Membership:
        """Return the membership kept in a site's folder.

        Raises
        ------
        ConsortiumError
            C025 if this site has not joined, C003 if the file cannot be used.
        """
        file = folder / MEMBERSHIP
        if not file.is_file():
            raise ConsortiumError(
                Code.NOT_JOINED,
                f"The site in {folder} has not joined a consortium.",
                "Ask the operator for an invitation, then run: polyclinic client join INVITATION",
            )
        try:
            return Membership.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            raise unusable(file) from None


def site_certificate(folder: Path) -> certificates.Certificate:
    """Return the certificate that a site holds."""
    return certificates.read_certificate(folder / TLS)


def tls_context(folder: Path) -> ssl.SSLContext:
    """Return what a site's HTTPS connections to its consortium are made with."""
    return certificates.client_context(folder / TLS, folder / TLS_KEY, folder / AUTHORITY)


def read_peers(folder: Path) -> dict[str, bytes]:
    """Return the identity keys that this hospital verified outside the system, by name.

    Raises
    ------
    ConsortiumError
        C003 if the file cannot be used.
    """
    file = folder / PEERS
    if not file.exists():
        return {}
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): bytes.fromhex(key) for name, key in plain.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise unusable(file) from None


def write_peers(folder: Path, peers: Mapping[str, bytes]) -> None:
    """Keep the identity keys that were verified."""
    text = json.dumps({name: key.hex() for name, key in sorted(peers.items())}, indent=2)
    write_atomically(folder / PEERS, text.encode())
    (folder / PEERS).chmod(MODE)


def unusable(file: Path) -> ConsortiumError:
    """Return the error for a file of the consortium that is damaged."""
    return ConsortiumError(
        Code.CONSORTIUM_FILE,
        f"{file} is damaged or cannot be read.",
        "Put the file back from a copy.",
    )
