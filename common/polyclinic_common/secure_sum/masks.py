"""Masks that cancel in the sum: one key a pair of sites, one stream a key, modulo 2^64."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.packing import Value, pack
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain
from polyclinic_common.secure_sum.keys import PairSecret

VERSION = 1
Words = NDArray[np.uint64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Participant:
    """A site in an attempt: identity key, both ephemeral keys one after the other, epoch."""

    identity: bytes
    ephemeral: bytes
    epoch: bytes


@dataclass(frozen=True)
class View:
    """Everything that two sites must see alike to share a mask.

    Attributes
    ----------
    study_hash, release, roster_hash, broadcast, history : bytes or ReleaseId
        What is summed, among whom, at which model, after which earlier sums.
    length, clip, grid_exponent : int, float, int
        Shape of the vector, bound on one patient, grid 2^grid_exponent.
    chain : Chain
        The whole chain of attempts; the last is the one that is masked.
    participants : tuple of Participant
        Members of the last attempt in order of identity key.
    """

    study_hash: bytes
    release: ReleaseId
    length: int
    clip: float
    grid_exponent: int
    roster_hash: bytes
    participants: tuple[Participant, ...]
    chain: Chain
    broadcast: bytes
    history: bytes

    def digest(self) -> bytes:
        """Return the 32-byte hash of the whole view."""
        name: Value = [self.release.run, self.release.round_number, self.release.kind]
        shape: Value = [self.length, self.clip, self.grid_exponent]
        people: Value = [[p.identity, p.ephemeral, p.epoch] for p in self.participants]
        what: Value = ["polyclinic view", VERSION, self.study_hash, name, shape]
        who: Value = [self.roster_hash, people, self.chain]
        fields: Value = [what, who, self.broadcast, self.history]
        return hashlib.sha256(pack(fields)).digest()


def mask_key(
    view_digest: bytes, pair: tuple[Participant, Participant], shared: PairSecret
) -> bytes:
    """Return the 32-byte key of a pair (lower identity first): HKDF-SHA-256 (RFC 5869).

    Without the pair in it, a colluder who announces an honest site's key would cancel its masks.
    """
    lower, higher = pair
    people: Value = [[p.identity, p.ephemeral, p.epoch] for p in (lower, higher)]
    named = pack(["polyclinic mask", view_digest, people, shared.ciphertext_hash])
    info = hashlib.sha256(named).digest()
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(shared.secret)


def masked(vector: Words, view: View, own: bytes, secrets: Mapping[bytes, PairSecret]) -> Words:
    """Return `vector` plus this site's masks, modulo 2^64, shape (d,).

    Of a pair, the site with the lower identity key adds the stream and the other subtracts it.

    Parameters
    ----------
    vector : array of shape (d,), uint64
        Noisy integers, two's complement.
    own : bytes
        This site's identity key.
    secrets : mapping
        Pair secret by the peer's identity key.
    """
    digest, total = view.digest(), vector.copy()
    myself = next(p for p in view.participants if p.identity == own)
    buffer, zeros = bytearray(8 * len(vector)), bytes(8 * len(vector))
    words = np.frombuffer(buffer, dtype="<u8")
    for peer in view.participants:
        if peer.identity == own:
            continue
        adds = own < peer.identity
        pair = (myself, peer) if adds else (peer, myself)
        _expand(mask_key(digest, pair, secrets[peer.identity]), zeros, buffer)
        operation = np.add if adds else np.subtract
        operation(total, words, out=total)
    return total


def _expand(key: bytes, zeros: bytes, buffer: bytearray) -> None:
    """Write the ChaCha20 stream (RFC 8439, counter and nonce zero) of a key used once."""
    Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update_into(zeros, buffer)


def unmasked_sum(vectors: list[Words]) -> Integers:
    """Return the sum of all members' masked vectors: masks cancel, two's complement, shape (d,).

    Raises
    ------
    MessageError
        If the vectors are not of one length.
    """
    total = np.zeros_like(vectors[0])
    if any(vector.shape != total.shape for vector in vectors):
        raise MessageError(
            Code.PROTOCOL_REFUSED,
            "A sum was refused: the hospitals' vectors are not of one length.",
            "Check that all hospitals run the same version of Polyclinic.",
        )
    for vector in vectors:
        np.add(total, vector, out=total)
    return total.view(np.int64)
