"""The hospitals of a study, and their keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.identity.site_key import PUBLIC_BYTES
from polyclinic_common.packing import Value, pack


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
