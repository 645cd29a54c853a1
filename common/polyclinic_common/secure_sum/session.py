"""One site's part in the key exchange of a run: announce, answer, and know the peers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed, refused
from polyclinic_common.packing import pack
from polyclinic_common.secure_sum.keys import (
    EphemeralKeys,
    PairSecret,
    encapsulate,
    is_canonical,
)
from polyclinic_common.secure_sum.masks import Participant
from polyclinic_common.secure_sum.statements import KeyAnnouncement, KeyAnswer

Heads = Mapping[bytes, tuple[int, bytes]]


@dataclass(frozen=True)
class Agreed:
    """The result of a key exchange.

    Attributes
    ----------
    session : bytes
        Hash of all announcements: the name of this exchange.
    participants : mapping
        Keys and epoch of every site that announced, by identity.
    secrets : mapping
        Pair secrets, by identity of the peer.
    claims : mapping
        What peers have seen of this site's ledger, by identity of the peer.
    expires : int
        Unix time in seconds after which no mask may be made from these keys.
    """

    session: bytes
    participants: Mapping[bytes, Participant]
    secrets: Mapping[bytes, PairSecret]
    claims: Mapping[bytes, tuple[int, bytes]]
    expires: int


class KeyExchange:
    """Announces this site's keys, answers the peers', and derives pair secrets.

    Parameters
    ----------
    identity : Identity
        This site's long-term key.
    study_hash : bytes
        The study.
    run : str
        The run.
    roster : Roster
        The roster that this site approved.
    """

    def __init__(self, identity: Identity, study_hash: bytes, run: str, roster: Roster):
        self._identity = identity
        self._study_hash = study_hash
        self._run = run
        self._roster = roster
        self._keys = EphemeralKeys()
        self._announced: dict[bytes, KeyAnnouncement] = {}
        self._sent: dict[bytes, tuple[bytes, bytes]] = {}  # peer: encapsulated secret, ciphertext
        self._session = b""

    def announcement(
        self, expires: int, head: tuple[int, bytes], seen: Heads, *, declared_reset: bool = False
    ) -> bytes:
        """Return this site's signed announcement.

        Parameters
        ----------
        expires : int
            Unix time in seconds.
        head : tuple of int and bytes
            Counter and salted head of this site's ledger.
        seen : mapping
            Highest heads seen of others.
        declared_reset : bool
            Whether this site's ledger was begun anew.
        """
        statement = KeyAnnouncement(
            identity=self._identity.public,
            study_hash=self._study_hash,
            run=self._run,
            epoch=self._keys.epoch,
            expires=expires,
            roster_hash=self._roster.hash(),
            agreement_key=self._keys.agreement_key,
            kem_key=self._keys.kem_key,
            counter=head[0],
            head=head[1],
            heads=tuple((peer, *seen[peer]) for peer in sorted(seen)),
            declared_reset=int(declared_reset),
        )
        return statement.signed(self._identity)

    def answer(self, announcements: Sequence[bytes], now: int, seen: Heads) -> bytes:
        """Check all sites' announcements and return this site's signed answer.

        Raises
        ------
        MessageError
            If one is forged, foreign, expired, repeats a key, or this site's own is not in it.
        """
        found = [read_signed(KeyAnnouncement, data) for data in announcements]
        self._check(found, now)
        sent = {
            said.identity: encapsulate(said.kem_key)
            for said in found
            if said.identity > self._identity.public and said.kem_key and self._keys.kem_key
        }
        self._announced, self._sent = {said.identity: said for said in found}, sent
        self._session = session_of(announcements)
        return KeyAnswer(
            identity=self._identity.public,
            study_hash=self._study_hash,
            run=self._run,
            session=self._session,
            ciphertexts=tuple((peer, sent[peer][1]) for peer in sorted(sent)),
            receipts=tuple((peer, *seen[peer]) for peer in self._peers() if peer in seen),
        ).signed(self._identity)

    def agree(self, answers: Sequence[bytes]) -> Agreed:
        """Derive the pair secrets from the peers' answers.

        Raises
        ------
        MessageError
            If an answer is forged or belongs to other announcements than this site was shown.
        """
        own = self._identity.public
        secrets: dict[bytes, PairSecret] = {}
        claims: dict[bytes, tuple[int, bytes]] = {}
        for data in answers:
            answer = read_signed(KeyAnswer, data)
            peer = answer.identity
            if peer == own:
                continue
            if answer.session != self._session or peer not in self._announced or peer in secrets:
                raise refused("an answer belongs to other announcements")
            secrets[peer] = self._pair(self._announced[peer], dict(answer.ciphertexts))
            told = (*answer.receipts, *self._announced[peer].heads)
            seen = [head[1:] for head in told if head[0] == own]
            claims[peer] = max(seen, default=(0, b""))
        participants = {
            peer: Participant(peer, said.agreement_key + said.kem_key, said.epoch)
            for peer, said in self._announced.items()
            if peer in secrets or peer == own
        }
        expires = min((self._announced[peer].expires for peer in participants), default=0)
        return Agreed(self._session, participants, secrets, claims, expires)

    def claims(self) -> dict[bytes, tuple[int, bytes]]:
        """Return what each peer announced to have seen of this site's ledger; counter 0 if none."""
        own = self._identity.public
        return {
            peer: max((h[1:] for h in self._announced[peer].heads if h[0] == own), default=(0, b""))
            for peer in self._peers()
        }

    def heads(self) -> dict[bytes, tuple[int, bytes]]:
        """Return the ledger heads that the peers announced."""
        return {
            peer: (self._announced[peer].counter, self._announced[peer].head)
            for peer in self._peers()
        }

    def resets(self) -> list[bytes]:
        """Return the peers that announced a ledger begun anew."""
        return [peer for peer in self._peers() if self._announced[peer].declared_reset]

    def _peers(self) -> list[bytes]:
        return [peer for peer in sorted(self._announced) if peer != self._identity.public]

    def _pair(self, peer: KeyAnnouncement, ciphertexts: Mapping[bytes, bytes]) -> PairSecret:
        agreed = self._keys.agree(peer.agreement_key)
        if not (peer.kem_key and self._keys.kem_key):
            return PairSecret.of(agreed, b"", b"")
        if peer.identity in self._sent:
            return PairSecret.of(agreed, *self._sent[peer.identity])
        ciphertext = ciphertexts.get(self._identity.public)
        if ciphertext is None:
            raise refused("an answer lacks the ciphertext for this site")
        return PairSecret.of(agreed, self._keys.open(ciphertext), ciphertext)

    def _check(self, found: Sequence[KeyAnnouncement], now: int) -> None:
        own = [said for said in found if said.identity == self._identity.public]
        keys = Counter(key for said in found for key in _keys_of(said))
        if len(own) != 1 or own[0].epoch != self._keys.epoch:
            raise refused("this site's own announcement is not among those shown")
        if keys.most_common(1)[0][1] > 1:
            raise refused("a key is announced twice")
        for said in found:
            if (said.study_hash, said.run) != (self._study_hash, self._run):
                raise refused("an announcement belongs to another study or run")
            if said.roster_hash != self._roster.hash():
                raise refused("announcements name different rosters")
            if said.identity not in self._roster.identities:
                raise refused("an announcement comes from outside the roster")
            if said.expires < now:
                raise refused("an announcement has expired")
            if not is_canonical(said.agreement_key):
                raise refused("a key is not written in the canonical way")


def session_of(announcements: Sequence[bytes]) -> bytes:
    """Return the 32-byte name of a key exchange: the hash of all announcements, in any order."""
    return hashlib.sha256(pack(["polyclinic session", sorted(announcements)])).digest()


def _keys_of(said: KeyAnnouncement) -> list[bytes]:
    return [said.identity, said.agreement_key, *([said.kem_key] if said.kem_key else [])]
