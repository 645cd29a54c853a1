"""Whose signatures stand under a bundle as it is handed out."""

from __future__ import annotations

from collections.abc import Iterable

from polyclinic_common.bundle.archive import pack_members, unpack_members
from polyclinic_common.bundle.bundle import ENVELOPE
from polyclinic_common.bundle.envelope import Envelope
from polyclinic_server.store.tables import BundleDecision

_STORED = "in the store"


def envelope_of(content: bytes) -> Envelope:
    """Return the envelope of a bundle as it was released.

    Raises
    ------
    BundleError
        B001 if the store holds something else.
    """
    return Envelope.read(unpack_members(content, _STORED)[ENVELOPE], _STORED)


def with_signatures(content: bytes, decisions: Iterable[BundleDecision]) -> bytes:
    """Return a bundle with the signatures of the hospitals that accept it now.

    One that rejected it after it had signed it is left out.
    """
    members = unpack_members(content, _STORED)
    envelope = Envelope.read(members[ENVELOPE], _STORED)
    for each in decisions:
        if each.state == "accepted" and each.signature is not None:
            envelope = envelope.with_signature(each.identity.hex(), each.signature)
    return pack_members(members | {ENVELOPE: envelope.to_json()})
