"""Ephemeral keys of one site in one run, and the secret that each pair of sites shares."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from polyclinic_common.errors import Code, MessageError

EPOCH_BYTES = 16
_FIELD = 2**255 - 19  # of Curve25519


class EphemeralKeys:
    """X25519 and, where the installed cryptography offers it, ML-KEM-768 (FIPS 203).

    Kept in memory only: a node that starts again has new keys and a new epoch.
    """

    def __init__(self) -> None:
        self.epoch = os.urandom(EPOCH_BYTES)
        self._agreement = X25519PrivateKey.generate()
        self.agreement_key = self._agreement.public_key().public_bytes_raw()
        try:
            self._kem: MLKEM768PrivateKey | None = MLKEM768PrivateKey.generate()
            self.kem_key = self._kem.public_key().public_bytes_raw()
        except UnsupportedAlgorithm:
            self._kem, self.kem_key = None, b""

    def agree(self, peer_key: bytes) -> bytes:
        """Return the X25519 secret shared with a peer (RFC 7748); all zero is refused."""
        try:
            return self._agreement.exchange(X25519PublicKey.from_public_bytes(peer_key))
        except ValueError:
            raise _unusable() from None

    def open(self, ciphertext: bytes) -> bytes:
        """Return the ML-KEM secret in a peer's ciphertext."""
        if self._kem is None:
            raise _unusable()
        try:
            return self._kem.decapsulate(ciphertext)
        except ValueError:
            raise _unusable() from None


def is_canonical(agreement_key: bytes) -> bool:
    """Say whether an X25519 key is written in the one canonical way.

    RFC 7748 ignores the highest bit and reduces modulo 2^255 - 19: the same key has other
    spellings, which would pass for a key that nobody else announced.
    """
    return int.from_bytes(agreement_key, "little") < _FIELD


def encapsulate(kem_key: bytes) -> tuple[bytes, bytes]:
    """Return a fresh secret and its ciphertext for the holder of an ML-KEM-768 key."""
    try:
        return MLKEM768PublicKey.from_public_bytes(kem_key).encapsulate()
    except ValueError:
        raise _unusable() from None


@dataclass(frozen=True)
class PairSecret:
    """What two sites share: X25519 secret, then ML-KEM secret; and the hash of the ciphertext."""

    secret: bytes
    ciphertext_hash: bytes

    @staticmethod
    def of(agreed: bytes, encapsulated: bytes, ciphertext: bytes) -> PairSecret:
        """Return the secret of a pair; without ML-KEM the last two are empty."""
        return PairSecret(agreed + encapsulated, hashlib.sha256(ciphertext).digest())


def _unusable() -> MessageError:
    return MessageError(
        Code.PROTOCOL_REFUSED,
        "A key of the secure sum cannot be used.",
        "Report it to the operator; no mask was made.",
    )
