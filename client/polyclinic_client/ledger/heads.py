"""Heads of a ledger: how far it has come, told so that nobody reads its rows or makes one up.

A head is the number of a row and 32 bytes: half a salted hash of the row, and a mark that only
this hospital's identity key can make. So a hospital knows its own heads again even when the rows
are gone, and an invented number, however high, is seen to be one.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from polyclinic_client.records.entry import LedgerHead
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.packing import pack

FARTHEST = 2**32  # rows: a thousand a second for fifty days; no copy of a ledger is so far behind
_HALF = 16  # bytes


class HeadMaker:
    """Makes the heads of one ledger, and knows those of this hospital.

    Parameters
    ----------
    identity : Identity
        The hospital's key; HKDF-SHA-256 (RFC 5869) makes the key of the marks of it. A new ledger
        of the same hospital knows the heads of the one before.
    salt : bytes
        The ledger's salt.
    """

    def __init__(self, identity: Identity, salt: bytes):
        key = HKDF(SHA256(), 32, salt=None, info=b"polyclinic ledger heads")
        self._key = key.derive(identity.private)
        self._salt = salt

    def head(self, number: int, row_hash: bytes) -> LedgerHead:
        """Return the head of a ledger whose last row has this number and hash."""
        half = self._salted(number, row_hash)[:_HALF]
        return LedgerHead(number, half + self._mark(number, half))

    def is_of(self, head: LedgerHead, row_hash: bytes) -> bool:
        """Say whether a head is that of its row; earlier versions told the whole salted hash."""
        whole = self._salted(head.counter, row_hash)
        return head.digest in (self.head(head.counter, row_hash).digest, whole)

    def made(self, head: LedgerHead) -> bool:
        """Say whether this hospital made a head, in this ledger or in another."""
        half, mark = head.digest[:_HALF], head.digest[_HALF:]
        return hmac.compare_digest(mark, self._mark(head.counter, half))

    def believable(self, head: LedgerHead, last: int) -> bool:
        """Say whether a ledger whose last row here is `last` can have had this head.

        Every head made by this version bears its mark. Those of earlier versions do not, but
        are never farther ahead of a copy than a ledger can grow.
        """
        return head.counter <= last + FARTHEST or self.made(head)

    def _salted(self, number: int, row_hash: bytes) -> bytes:
        content = pack(["polyclinic ledger head", self._salt, number, row_hash])
        return hashlib.sha256(content).digest()

    def _mark(self, number: int, half: bytes) -> bytes:
        content = pack(["polyclinic ledger head mark", number, half])
        return hmac.digest(self._key, content, "sha256")[:_HALF]
