"""The roster of a study, as its hospitals signed it: never taken on the server's word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyclinic_common.consortium.statements import ANY_RUN, Declaration
from polyclinic_common.errors import Code, ConsortiumError, MessageError
from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class CheckedRoster:
    """All hospitals of a study.

    Attributes
    ----------
    roster : Roster
        Names and identity keys.
    declared : mapping
        Declared patients, by name.
    verified : frozenset of bytes
        Identity keys that this hospital verified outside the system, its own included.
    statements : tuple of bytes
        The signed declarations, as they came.
    """

    roster: Roster
    declared: Mapping[str, int]
    verified: frozenset[bytes]
    statements: tuple[bytes, ...]


def check_roster(
    study: Study,
    statements: Sequence[bytes],
    own: tuple[str, bytes],
    peers: Mapping[str, bytes],
) -> CheckedRoster:
    """Return the roster that these signed declarations make up: the hospitals that train.

    What a hospital declared to an earlier version that is held out as a whole is left aside.

    Parameters
    ----------
    statements : sequence of bytes
        Signed declarations.
    own : pair of str and bytes
        This hospital's name and identity key.
    peers : mapping
        Identity keys that this hospital verified, by name.

    Raises
    ------
    ConsortiumError
        C018 if a declaration is not signed by the hospital it names, is of another study, stands
        twice, or names another key than the one verified; C019 if one is missing.
    PrivacyError
        P001 if a hospital declares more patients than a sum holds.
    """
    found = [_read(study, each) for each in statements]
    names = [each.name for each in found]
    if len(set(names)) < len(names) or not set(names) <= set(study.roster.sites):
        raise refused_roster("it names a hospital twice, or one that the study does not name")
    for each in found:
        each.require_size()
    found = [each for each in found if each.name in study.training_sites]
    keys = {each.name: each.identity for each in found}
    known = dict(peers) | {own[0]: own[1]}
    for name, key in keys.items():
        if known.get(name, key) != key:
            raise refused_roster(f"{name} has another key than the one that was verified")
    missing = [name for name in study.training_sites if name not in keys]
    if missing:
        raise ConsortiumError(
            Code.ROSTER_INCOMPLETE,
            f"These hospitals have not added their data yet: {', '.join(missing)}.",
            "Wait for them, or ask them; then try again.",
        )
    try:
        roster = Roster.of(keys)
    except MessageError:
        raise refused_roster("two hospitals have the same key") from None
    verified = frozenset(key for name, key in keys.items() if name in known)
    declared = {each.name: each.declared for each in found}
    return CheckedRoster(roster, declared, verified, tuple(statements))


def require_verified(study: Study, checked: CheckedRoster) -> None:
    """Refuse a secure sum in which fewer than m hospitals are verified, this one included.

    Raises
    ------
    ConsortiumError
        C017.
    """
    if study.privacy.mode == "secure-sum" and len(checked.verified) < study.m:
        unverified = [
            member.name
            for member in checked.roster.members
            if member.identity not in checked.verified
        ]
        raise ConsortiumError(
            Code.PEERS_UNVERIFIED,
            f"This hospital knows {len(checked.verified)} hospitals of the study for sure, itself "
            f"included; a round needs m = {study.m}.",
            "Telephone, then `polyclinic client peers verify NAME FINGERPRINT`; not verified: "
            f"{', '.join(unverified)}.",
        )


def refused_roster(why: str) -> ConsortiumError:
    """Return the error for a roster that contradicts itself or what is known."""
    return ConsortiumError(
        Code.ROSTER_REFUSED,
        f"The roster of the study was refused: {why}.",
        "Approve nothing; telephone that hospital and the operator.",
    )


def _read(study: Study, statement: bytes) -> Declaration:
    try:
        found = read_signed(Declaration, statement)
    except MessageError:
        raise refused_roster("a declaration is not signed by the hospital it names") from None
    if found.study_hash.hex() != study.hash() or found.run != ANY_RUN:
        raise refused_roster("a declaration belongs to another study")
    return found
