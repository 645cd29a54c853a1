"""Who speaks: a hospital's long-term key, and the roster that binds names to keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.packing import Value, pack

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


@dataclass(frozen=True)
class Member:
    """One hospital of a roster: its public name and identity key."""

    name: str
    identity: bytes


@dataclass(frozen=True)
class Roster:
    """All hospitals of a study, in order of identity key.

    Raises
    ------
    MessageError
        If a key is not 32 bytes long, or two hospitals have the same.
    """

    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        keys = self.identities
        ordered = all(before < after for before, after in pairwise(keys))
        if not ordered or any(len(key) != PUBLIC_BYTES for key in keys):
            raise MessageError(
                Code.PROTOCOL_REFUSED,
                "A roster was refused: its identity keys are not distinct keys in their order.",
                "Ask the operator for the roster again; compare fingerprints by telephone.",
            )

    @staticmethod
    def of(members: dict[str, bytes]) -> Roster:
        """Return the roster of these names and identity keys."""
        ordered = sorted(members.items(), key=lambda item: item[1])
        return Roster(tuple(Member(name, identity) for name, identity in ordered))

    def __len__(self) -> int:
        return len(self.members)

    @property
    def identities(self) -> tuple[bytes, ...]:
        """Identity keys in order."""
        return tuple(member.identity for member in self.members)

    def name_of(self, identity: bytes) -> str:
        """Return the name that belongs to an identity key of the roster."""
        return next(member.name for member in self.members if member.identity == identity)

    def hash(self) -> bytes:
        """Return the 32-byte hash that names the roster."""
        members: Value = [[member.name, member.identity] for member in self.members]
        return hashlib.sha256(pack(["polyclinic roster", members])).digest()
