"""Streams of random words that no seed reaches: ChaCha20 under fresh keys."""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

KEY_BYTES = 32


class Stream:
    """The ChaCha20 keystream (RFC 8439) of one key, good for 256 GiB; no part is given out twice.

    Parameters
    ----------
    key : bytes
        32 bytes that are never used again, for which reason the nonce is constant (zero).
    """

    def __init__(self, key: bytes):
        self._cipher = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return self._cipher.update(bytes(count))

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next `count` uniform 64-bit words (little-endian), shape (count,)."""
        words = np.zeros(count, dtype="<u8")
        data = words.data.cast("B")
        self._cipher.update_into(data, data)
        return words.view(np.uint64)


def system_stream() -> Stream:
    """Return a stream under a fresh key of the operating system."""
    return Stream(os.urandom(KEY_BYTES))


def derived_stream(secret: bytes, context: bytes) -> Stream:
    """Return a stream for one use, from fresh entropy of the operating system and a secret.

    The key is HKDF-SHA-256 (RFC 5869) of 32 fresh bytes followed by `secret`, with `context` as
    info. Should the operating system repeat its entropy, as in a cloned machine, another secret or
    context still gives another stream.
    """
    fresh = os.urandom(KEY_BYTES)
    return Stream(HKDF(SHA256(), KEY_BYTES, salt=None, info=context).derive(fresh + secret))
