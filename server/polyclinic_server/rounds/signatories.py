"""What hospitals sign in a run, checked when it arrives.

No promise rests on these checks, for every hospital makes them itself. But what would have all of
them refuse must not be passed on: who signs it counts as silent, and the run goes on without.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from polyclinic_common.errors import MessageError
from polyclinic_common.identity.statement import Statement, read_signed
from polyclinic_common.secure_sum.keys import EphemeralKeys, encapsulate, is_canonical
from polyclinic_common.secure_sum.session import session_of
from polyclinic_common.secure_sum.statements import Closing, KeyAnnouncement, KeyAnswer

KEM_CIPHERTEXT = 1088  # bytes: ML-KEM-768 (FIPS 203, table 3)
S = TypeVar("S", bound=Statement)


@dataclass(frozen=True)
class Signatories:
    """The hospitals of one run, and whether what they sign can stand.

    Attributes
    ----------
    study_hash : bytes
        The study.
    run : str
        The run.
    identities : mapping
        Identity key of every hospital of the run, by name.
    """

    study_hash: bytes
    run: str
    identities: Mapping[str, bytes]

    def announcements(self, statements: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the announcements that hospitals will take from each other, by name.

        Of several rosters the one of most hospitals counts. Who announces a key that another
        announces too is left out with that other: nobody can tell whose it is.
        """
        said = self._own(KeyAnnouncement, statements)
        usable = {site: each for site, each in said.items() if _is_usable(each)}
        rosters = Counter(each.roster_hash for each in usable.values()).most_common(1)
        keys = Counter(key for each in usable.values() for key in _keys_of(each))
        return {
            site: statements[site]
            for site, each in usable.items()
            if each.roster_hash == rosters[0][0] and all(keys[key] == 1 for key in _keys_of(each))
        }

    def answers(
        self, statements: Mapping[str, bytes], announced: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Return the answers that belong to these announcements and serve every peer, by name."""
        session = session_of(list(announced.values()))
        keys = self._own(KeyAnnouncement, announced)
        return {
            site: statements[site]
            for site, each in self._own(KeyAnswer, statements).items()
            if each.session == session and _serves(each, keys)
        }

    def closings(self, statements: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the closing statements that their hospitals signed for this run, by name."""
        return {site: statements[site] for site in self._own(Closing, statements)}

    def _own(self, kind: type[S], statements: Mapping[str, bytes]) -> dict[str, S]:
        """Return what hospitals signed themselves for this run, by name."""
        found: dict[str, S] = {}
        for site, statement in statements.items():
            try:
                said = read_signed(kind, statement)
            except MessageError:
                continue
            own = self.identities[site], self.study_hash, self.run
            if (said.identity, said.study_hash, said.run) == own:
                found[site] = said
        return found


def _is_usable(said: KeyAnnouncement) -> bool:
    """Say whether hospitals can agree on secrets with the keys that are announced."""
    probe = EphemeralKeys()
    try:
        probe.agree(said.agreement_key)
        if said.kem_key and probe.kem_key:
            encapsulate(said.kem_key)
    except MessageError:
        return False
    return is_canonical(said.agreement_key) and said.expires >= time.time()


def _serves(said: KeyAnswer, announced: Mapping[str, KeyAnnouncement]) -> bool:
    """Say whether an answer holds exactly the ciphertexts that its sender's peers wait for."""
    with_kem = {each.identity for each in announced.values() if each.kem_key}
    waiting = {key for key in with_kem if key > said.identity and said.identity in with_kem}
    sent = said.ciphertexts
    return sorted(key for key, _ in sent) == sorted(waiting) and all(
        len(ciphertext) == KEM_CIPHERTEXT for _, ciphertext in sent
    )


def _keys_of(said: KeyAnnouncement) -> list[bytes]:
    return [said.agreement_key, *([said.kem_key] if said.kem_key else [])]
