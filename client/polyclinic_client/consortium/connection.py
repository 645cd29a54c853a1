"""A hospital's connection to its consortium's service, under mutual TLS, with coded errors."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import grpc

from polyclinic_client.consortium.channel import open_channel
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.membership import AUTHORITY, TLS, TLS_KEY, Membership, unusable
from polyclinic_client.records.row_seal import RowSeal
from polyclinic_client.records.sqlite_file import OpenFiles
from polyclinic_common.consortium.consortium_pb2_grpc import ConsortiumStub
from polyclinic_common.consortium.transport import LARGEST_MESSAGE, read_error


class Connection(OpenFiles):
    """A connection under mutual TLS; made by `open`, closed by leaving its context."""

    def __init__(self, channel: grpc.Channel, membership: Membership, seal: RowSeal):
        self.membership = membership
        self._seal = seal
        self._channel = channel
        self._stub = ConsortiumStub(channel)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return a client for the site in a folder; nothing is sent yet.

        Raises
        ------
        ConsortiumError
            C025 if this site has not joined, C003 if a key or certificate cannot be read, C033 if
            the proxy that the environment names cannot be used.
        """
        membership = Membership.read(folder)
        try:
            trusted, key, own = [(folder / name).read_bytes() for name in (AUTHORITY, TLS_KEY, TLS)]
        except OSError as error:
            raise unusable(Path(str(error.filename))) from None
        credentials = grpc.ssl_channel_credentials(trusted, key, own)
        channel = open_channel(membership.host, membership.port, credentials, LARGEST_MESSAGE)
        return cls(channel, membership, RowSeal(read_identity(folder)))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    @contextmanager
    def _coded(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise read_error(error, self.membership.address) from None


def utc(seconds: float) -> dt.datetime:
    """Return a moment, from Unix time."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
