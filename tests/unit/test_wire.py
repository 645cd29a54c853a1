"""A message is exactly what the protocol declares, or it is refused whole."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from polyclinic_common.errors import MessageError
from polyclinic_common.packing import Value, pack
from polyclinic_common.wire import (
    MaskedVector,
    PrivateUpdate,
    Reason,
    Refusal,
    SumRecord,
    SumRequest,
    TrainRequest,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from polyclinic_common.wire.messages import MAX_LENGTH

VECTOR = np.array([1.0, -2.5, 0.0])


def request() -> RecordDict:
    return encode_request(TrainRequest("study", "run", 3, "update", VECTOR))


def test_request_and_replies_come_back_as_they_were_sent() -> None:
    found = decode_request(request())
    assert isinstance(found, TrainRequest)
    assert (found.study_hash, found.run_id, found.round_number) == ("study", "run", 3)
    assert np.array_equal(found.weights, VECTOR)
    update = decode_reply(encode_reply(PrivateUpdate("study", "run", 3, "update", VECTOR)))
    assert isinstance(update, PrivateUpdate)
    assert np.array_equal(update.vector, VECTOR)
    for reason in Reason:
        assert decode_reply(encode_reply(Refusal(reason))) == Refusal(reason)


def header(records: RecordDict) -> ConfigRecord:
    found = records["polyclinic"]
    assert isinstance(found, ConfigRecord)
    return found


def test_anything_unexpected_is_refused() -> None:
    def with_field(name: str, value: str | int | bytes | list[int]) -> RecordDict:
        records = request()
        header(records)[name] = value
        return records

    def with_body(*fields: Value) -> RecordDict:
        records = request()
        header(records)["body"] = pack(fields)
        return records

    def with_record() -> RecordDict:
        records = request()
        records["extra"] = MetricRecord({"patients": 12})
        return records

    def without(name: str) -> RecordDict:
        records = request()
        del header(records)[name]
        return records

    hostile = [
        RecordDict(),
        with_field("note", "free text"),
        with_field("protocol", 1),
        with_body("private_update", "study", "run", 3, "update"),
        with_body("train_request", "study", "run", 0, "update"),
        with_body("train_request", "study", "run", "three", "update"),
        with_body("train_request", 7, "run", 3, "update"),
        with_body("train_request", "study", "run", 3, "update", "free text"),
        with_body("train_request", "study", "run"),
        with_body("train_request", "study", "x" * 65, 3, "update"),
        with_record(),
        without("vector"),
        without("body"),
        without("protocol"),
        with_field("vector", "text"),
        with_field("vector", [1, 2]),
        with_field("vector", b""),
        with_field("vector", VECTOR.tobytes()[:-1]),
        with_field("vector", np.array([np.nan]).tobytes()),
        with_field("vector", np.array([np.inf]).tobytes()),
        with_field("vector", bytes(8 * (MAX_LENGTH + 1))),
    ]
    for records in hostile:
        with pytest.raises(MessageError):
            decode_request(records)


@given(st.binary(max_size=200))
def test_a_vector_of_any_bytes_is_finite_numbers_or_refused(data: bytes) -> None:
    records = request()
    header(records)["vector"] = data
    try:
        found = decode_request(records)
    except MessageError:
        return
    assert isinstance(found, TrainRequest)
    assert found.weights.tobytes() == data
    assert np.isfinite(found.weights).all()


def test_a_kind_without_a_vector_carries_none() -> None:
    records = encode_reply(Refusal(Reason.EXPIRED))
    header(records)["vector"] = VECTOR.tobytes()
    with pytest.raises(MessageError):
        decode_reply(records)


def test_a_message_is_one_record() -> None:
    """Flower sends every record, array and part of an array by itself."""
    records = request()
    assert set(records) == {"polyclinic"}
    assert set(header(records)) == {"protocol", "body", "vector"}
    assert header(records)["vector"] == VECTOR.tobytes()


@given(st.binary(max_size=60))
def test_a_rubbish_body_is_refused_without_a_crash(data: bytes) -> None:
    records = request()
    header(records)["body"] = data
    with pytest.raises(MessageError):
        decode_request(records)


@pytest.mark.parametrize(
    "body",
    [
        ["refusal", "patient 17 is too old"],
        ["refusal", ["expired"]],
        ["refusal", "expired", 3],
        ["refusal"],
        ["train_request", "study", "run", 3, "update"],
        "refusal",
        [],
    ],
)
def test_a_refusal_carries_a_known_reason_and_nothing_else(body: Value) -> None:
    records = encode_reply(Refusal(Reason.EXPIRED))
    header(records)["body"] = pack(body)
    with pytest.raises(MessageError):
        decode_reply(records)


def test_a_sum_request_comes_back_as_it_was_sent() -> None:
    a, b = bytes(32), bytes([1] * 32)
    record = SumRecord(b"", 1, "gradient", ((a, b), (b,)), a)
    for previous in (None, record):
        sent = SumRequest(
            "study", "run", 2, "gradient", ((a, b),), previous, (b"x",), (b"y", b"z"), VECTOR
        )
        found = decode_request(encode_request(sent))
        assert isinstance(found, SumRequest)
        assert encode_request(found) == encode_request(sent)
        assert found.previous == previous
        assert found.chain == ((a, b),)


def test_a_masked_vector_is_whole_words() -> None:
    words = np.array([1, 2**64 - 1], dtype=np.uint64)
    sent = MaskedVector("study", "run", 1, "gradient", 1, bytes(32), b"", words)
    found = decode_reply(encode_reply(sent))
    assert isinstance(found, MaskedVector)
    assert np.array_equal(found.vector, words)
    assert header(encode_reply(sent))["vector"] == words.astype("<u8").tobytes()
