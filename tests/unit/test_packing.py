"""Canonical bytes: whatever is hashed or signed has one spelling, and every spelling one value."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.packing import Plain, Value, pack, unpack

DEEPEST = 8
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=20),
    st.text(max_size=20),
)
values = st.recursive(scalars, lambda items: st.lists(items, max_size=4).map(tuple), max_leaves=12)


def typed(value: Plain) -> object:
    """Return a value such that 1 and 1.0, or 0.0 and -0.0, are not equal."""
    if isinstance(value, tuple):
        return tuple(typed(item) for item in value)
    if isinstance(value, float):
        return "float", struct.pack(">d", value)
    return type(value).__name__, value


def nested(levels: int) -> Value:
    """Return lists in lists, so many levels."""
    value: Value = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(values)
def test_what_is_packed_comes_back(value: Plain) -> None:
    assert typed(unpack(pack(value))) == typed(value)


@given(values, values)
def test_two_values_never_have_the_same_bytes(one: Plain, other: Plain) -> None:
    assert (pack(one) == pack(other)) == (typed(one) == typed(other))


@given(st.lists(scalars, max_size=4), st.lists(scalars, max_size=4))
def test_fields_cannot_flow_into_each_other(one: list[Plain], other: list[Plain]) -> None:
    """The boundary between two lists is part of the bytes."""
    together = [*one, *other]
    for cut in range(len(together) + 1):
        moved = pack([together[:cut], together[cut:]])
        assert (moved == pack([one, other])) == (cut == len(one))


@given(st.binary(max_size=60))
def test_rubbish_is_refused_or_canonical(data: bytes) -> None:
    try:
        value = unpack(data)
    except MessageError:
        return
    assert pack(value) == data


@given(values, st.data())
def test_changed_bytes_are_refused_or_another_value(value: Plain, draw: st.DataObject) -> None:
    data = bytearray(pack(value))
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        other = unpack(bytes(data))
    except MessageError:
        return
    assert typed(other) != typed(value)
    assert pack(other) == bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i" + bytes(7),
        b"i" + bytes(9),
        b"x" + bytes(8),
        b"b" + (1).to_bytes(8, "big"),
        b"b" + (2**64 - 1).to_bytes(8, "big"),
        b"l" + (2**63).to_bytes(8, "big") + bytes(30),
        b"l" + (2).to_bytes(8, "big") + pack(1),
        b"t" + (1).to_bytes(8, "big") + b"\xff",
        b"t" + (3).to_bytes(8, "big") + b"\xed\xa0\x80",
        b"f" + struct.pack(">d", math.nan),
        b"f" + struct.pack(">d", math.inf),
        pack([1, 2]) + b"\0",
        pack("text")[:-1],
    ],
)
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError) as refused:
        unpack(data)
    assert refused.value.code is Code.MESSAGE_INVALID


def test_deep_lists_are_refused_and_not_followed() -> None:
    assert typed(unpack(pack(nested(DEEPEST)))) is not None
    for levels in (DEEPEST + 1, 200):
        with pytest.raises(MessageError):
            unpack(pack(nested(levels)))
    endless = (b"l" + (1).to_bytes(8, "big")) * 100_000
    with pytest.raises(MessageError):
        unpack(endless)


@pytest.mark.parametrize(
    "value", [True, None, {1: 2}, {1}, bytearray(b"x"), object(), [1, [False]], 1j]
)
def test_other_types_are_a_defect_of_the_caller(value: object) -> None:
    with pytest.raises(TypeError):
        pack(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800"])
def test_what_has_no_canonical_bytes_is_not_packed(value: Value) -> None:
    with pytest.raises(ValueError, match=r"finite|surrogates"):
        pack(value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_integers_beyond_64_bits_are_not_packed(value: int) -> None:
    with pytest.raises(OverflowError):
        pack(value)
