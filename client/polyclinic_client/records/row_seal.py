"""Seals ledger rows that the consortium keeps: only the hospital that wrote them can read them.

A row holds the hash of an unmasked vector and the time at which it was computed; to the server
both would tell more than the masks and the tick let it know.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from polyclinic_client.records.chained_log import Row
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.packing import pack

_NONCE_BYTES = 12


class RowSeal:
    """ChaCha20-Poly1305 (RFC 8439) under a key that follows from the hospital's identity.

    Parameters
    ----------
    identity : Identity
        The hospital's key; HKDF-SHA-256 (RFC 5869) makes the seal's key of it.
    """

    def __init__(self, identity: Identity):
        key = HKDF(SHA256(), 32, salt=None, info=b"polyclinic kept rows").derive(identity.private)
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, row: Row) -> bytes:
        """Return a row as it is kept elsewhere."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, row.text().encode(), _named(row.sequence))

    def unseal(self, sequence: int, kept: bytes) -> Row:
        """Return a kept row.

        Raises
        ------
        LedgerError
            L002 if it is not what was kept under this number.
        """
        nonce, sealed = kept[:_NONCE_BYTES], kept[_NONCE_BYTES:]
        try:
            return Row.read(self._cipher.decrypt(nonce, sealed, _named(sequence)).decode())
        except (InvalidTag, ValueError, KeyError, TypeError):
            raise LedgerError(
                Code.LEDGER_DAMAGED,
                "What the server kept of this hospital's ledger is damaged.",
                "Recover from another copy, or with --charge-lost.",
            ) from None


def _named(sequence: int) -> bytes:
    return pack(["polyclinic kept row", sequence])
