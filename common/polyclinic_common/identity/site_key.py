"""Who speaks: a hospital's long-term key, and the roster that binds names to keys."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

PUBLIC_BYTES = 32


class Identity:
    """A hospital's long-term Ed25519 key (RFC 8032): it signs protocol messages and rows."""

    def __init__(self, key: Ed25519PrivateKey):
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @staticmethod
    def generate() -> Identity:
        """Return a new identity."""
        return Identity(Ed25519PrivateKey.generate())

    @staticmethod
    def from_private(private: bytes) -> Identity:
        """Return the identity of 32 private bytes."""
        return Identity(Ed25519PrivateKey.from_private_bytes(private))

    @property
    def private(self) -> bytes:
        """The 32 private bytes, for the hospital's own key file."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return self._key.sign(message)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` over `message` is that of the identity key `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """Return what people compare by telephone: eight groups of four hexadecimal digits."""
    digits = hashlib.sha256(b"polyclinic identity" + public).hexdigest()[:32]
    return " ".join(digits[start : start + 4] for start in range(0, 32, 4))
