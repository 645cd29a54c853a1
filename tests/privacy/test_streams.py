"""Streams are ChaCha20 under keys that no seed reaches and that repeated entropy does not repeat.

Two equal draws by chance: probability below 2^-500 in every test here.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import random
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from polyclinic_common.privacy import noise
from polyclinic_common.privacy.discrete_gaussian import discrete_gaussian
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.streams import Stream, derived_stream, system_stream

VARIANCE = 2**24
# RFC 8439, appendix A.1, test vectors 1 and 2: key and nonce zero, blocks 0 and 1.
KEYSTREAM = bytes.fromhex(
    "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
)
# RFC 5869, appendix A.3: no salt, no info.
DERIVED = bytes.fromhex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d")


def first_block_of_hkdf(material: bytes, info: bytes) -> bytes:
    """RFC 5869 for 32 bytes without salt, from HMAC alone."""
    extracted = hmac.digest(bytes(32), material, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def fixed_entropy(monkeypatch: pytest.MonkeyPatch, byte: int = 7) -> None:
    monkeypatch.setattr("os.urandom", lambda count: bytes([byte]) * count)


def test_the_stream_is_chacha20() -> None:
    assert Stream(bytes(32)).take(128) == KEYSTREAM
    assert Stream(bytes(32)).words(16).tobytes() == KEYSTREAM


@pytest.mark.parametrize("count", [1, 7, 1000, 100_003])
def test_words_are_the_bytes_of_the_stream_and_none_is_given_twice(count: int) -> None:
    key = bytes(range(32))
    one, other = Stream(key), Stream(key)
    together = np.concatenate([one.words(count), one.words(3), one.words(0), one.words(count)])
    assert together.dtype == np.uint64
    assert together.astype("<u8").tobytes() == other.take(8 * (2 * count + 3))


def test_words_can_be_written_on_without_changing_the_stream() -> None:
    one, other = Stream(bytes(32)), Stream(bytes(32))
    one.words(8)[:] = 0
    other.words(8)
    assert np.array_equal(one.words(8), other.words(8))


def test_a_derived_key_is_hkdf_of_fresh_entropy_and_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert first_block_of_hkdf(b"\x0b" * 22, b"") == DERIVED
    fixed_entropy(monkeypatch)
    key = first_block_of_hkdf(b"\x07" * 32 + b"secret", b"context")
    assert derived_stream(b"secret", b"context").take(64) == Stream(key).take(64)


def test_repeated_entropy_repeats_noise_only_for_the_same_context_and_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cloned machine draws the same entropy: another input must still get other noise."""

    def draw(secret: bytes, context: bytes) -> NDArray[np.int64]:
        return SystemNoise(secret).discrete(100, VARIANCE, context)

    fixed_entropy(monkeypatch)
    first = draw(b"secret", b"round 1")
    assert np.array_equal(first, draw(b"secret", b"round 1"))
    for other in (draw(b"secret", b"round 2"), draw(b"other", b"round 1"), draw(b"", b"round 1")):
        assert not np.array_equal(first, other)
        assert np.mean(first == other) < 0.1
    fixed_entropy(monkeypatch, 8)
    assert not np.array_equal(first, draw(b"secret", b"round 1"))


def test_system_noise_is_the_exact_sampler_at_the_variance_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fixed_entropy(monkeypatch)
    drawn = SystemNoise(b"secret").discrete(1000, VARIANCE + 1, b"context")
    exact = discrete_gaussian(derived_stream(b"secret", b"context"), 1000, VARIANCE + 1)
    assert np.array_equal(drawn, exact)


def distinct(draws: list[NDArray[np.int64]]) -> bool:
    return len({draw.tobytes() for draw in draws}) == len(draws)


def test_noise_is_fresh_in_every_call_whatever_is_seeded() -> None:
    draws = []
    source = SystemNoise(b"secret")
    for _ in range(3):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        draws += [source.discrete(50, VARIANCE, b"same"), SystemNoise().discrete(50, VARIANCE, b"")]
    assert distinct(draws)


def test_mutation_a_reused_stream_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certain: a key that is not fresh gives equal draws."""
    monkeypatch.setattr(noise, "derived_stream", lambda *_: Stream(bytes(32)))
    source = SystemNoise(b"secret")
    assert not distinct([source.discrete(50, VARIANCE, b"same") for _ in range(2)])


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (system_stream, []),
        (derived_stream, ["secret", "context"]),
        (discrete_gaussian, ["stream", "size", "variance"]),
        (SystemNoise, ["secret"]),
        (SystemNoise.discrete, ["self", "size", "variance", "context"]),
        (SystemNoise.gaussian, ["self", "size", "deviation"]),
    ],
)
def test_no_parameter_takes_a_seed(function: Callable[..., object], names: list[str]) -> None:
    """`secret` and `context` are mixed with fresh entropy and cannot replace it (see above)."""
    assert list(inspect.signature(function).parameters) == names
