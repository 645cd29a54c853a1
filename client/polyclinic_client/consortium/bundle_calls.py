"""Calls of a hospital about bundles: what is on offer, called back, accepted, rejected."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from polyclinic_client.consortium.connection import Connection, utc
from polyclinic_common.bundle.archive import LARGEST
from polyclinic_common.consortium import consortium_pb2 as pb
from polyclinic_common.consortium.transport import FETCH_S, UNARY_S

MOST_WITHDRAWALS = 10_000  # a server that sends pages without end is not followed


@dataclass(frozen=True)
class OfferedBundle:
    """A bundle as the server tells of it; what it is, is checked once it was fetched.

    Attributes
    ----------
    digest : str
        Its name, in hexadecimal.
    size : int
        Bytes.
    accepted : tuple of str
        Hospitals that signed it.
    rejected : mapping of str to str
        Why hospitals rejected it, by name.
    """

    digest: str
    study_hash: str
    run: str
    size: int
    released: dt.datetime
    accepted: tuple[str, ...]
    rejected: Mapping[str, str]


class BundleCalls(Connection):
    """What a hospital asks and says about bundles."""

    def bundles(self) -> list[OfferedBundle]:
        """Return the bundles on offer, the latest first, those called back included."""
        with self._coded():
            found = self._stub.ListBundles(pb.BundlesRequest(), timeout=UNARY_S)
        return [_offered(each) for each in found.bundles]

    def withdrawals(self) -> list[bytes]:
        """Return all that was called back, as the operator signed it; not checked yet."""
        found: list[bytes] = []
        while len(found) < MOST_WITHDRAWALS:
            request = pb.WithdrawalsRequest(after=len(found))
            with self._coded():
                page = self._stub.ListWithdrawals(request, timeout=UNARY_S).statements
            if not page:
                break
            found += page
        return found

    def bundle(self, digest: str) -> bytes:
        """Return a bundle's file, as large as one may be; not checked yet."""
        content = bytearray()
        request = pb.BundleRequest(digest=bytes.fromhex(digest))
        with self._coded():
            for part in self._stub.FetchBundle(request, timeout=FETCH_S):
                content += part.content
                if len(content) > LARGEST:
                    break
        return bytes(content)

    def accept_bundle(self, digest: str, signature: bytes) -> None:
        """Hand in this hospital's signature under a bundle."""
        request = pb.BundleSignature(digest=bytes.fromhex(digest), signature=signature)
        with self._coded():
            self._stub.SignBundle(request, timeout=UNARY_S)

    def reject_bundle(self, signed: bytes) -> None:
        """Hand in this hospital's signed rejection of a bundle."""
        with self._coded():
            self._stub.RejectBundle(pb.Signed(statement=signed), timeout=UNARY_S)


def _offered(found: pb.OfferedBundle) -> OfferedBundle:
    return OfferedBundle(
        found.digest.hex(),
        found.study_hash.hex(),
        found.run,
        found.size,
        utc(found.released),
        tuple(each.site for each in found.decisions if each.state == "accepted"),
        {each.site: each.code for each in found.decisions if each.state == "rejected"},
    )
