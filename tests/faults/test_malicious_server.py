"""A server that lies over the wire gets coded refusals or silence, and runs nothing at a hospital.

The test is the coordinator: it takes the runs of a real server that starts none itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.control_pb2 import ListRunsRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError

from polyclinic_client.node import fleet
from polyclinic_client.node.fleet import Fleet
from polyclinic_client.records.journal import Asked, Bundle, Left, Refused
from polyclinic_common.identity.certificates import client_context
from polyclinic_common.wire import (
    AnnouncedKeys,
    OpenRequest,
    Reason,
    Refusal,
    Release,
    SumRequest,
    TrainRequest,
    decode_reply,
    encode_request,
)
from polyclinic_server.rounds.mail import Mail
from tests.kits.consortium import LONG_S, Consortium, consortium, key_of, wait_for
from tests.kits.malicious import malicious_bundle, taken

MARK = "executed.txt"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    folder = tmp_path_factory.mktemp("consortium")
    with consortium(folder, sites=3, runs=("run",)) as made:
        made.start_server(passive=True)
        made.start_node("site 0", FLWR_HOME=str(folder / "flower"))
        wait_for("connection", lambda: "INFO connected" in made.log("site 0"))
        yield made


def ask(house: Consortium, request: Any) -> Release | None:
    with taken(house, malicious_bundle(house.folder / MARK)) as (grid, node, _):
        return Mail(grid, {"site 0": node}, LONG_S).ask(request, ["site 0"]).get("site 0")


def test_no_bundle_is_fetched_or_executed_and_its_hash_is_journalled(house: Consortium) -> None:
    import hashlib

    mark = house.folder / MARK
    bundle = malicious_bundle(mark)
    with taken(house, bundle) as (grid, node, run):
        said = Mail(grid, {"site 0": node}, LONG_S).ask(OpenRequest("00" * 32, "run"), ["site 0"])
        assert said == {"site 0": Refusal(Reason.NOT_APPROVED)}
    noted = [event for event in house.journal("site 0") if isinstance(event, Bundle)]
    digest = hashlib.sha256(bundle).digest()
    assert (digest, run) in {(each.sha256, each.flower_run) for each in noted}
    assert not mark.exists()
    assert not (house.folder / "flower").exists()
    (worker,) = house.processes["site 0"].children
    command = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
    assert command[1:3] == [b"-m", b"polyclinic_client.worker.worker"]


def test_what_was_not_approved_is_refused_and_journalled(house: Consortium) -> None:
    study = house.study.hash()
    for request in (
        OpenRequest("00" * 32, "run"),
        OpenRequest(study, "another-run"),
        OpenRequest("", ""),
        TrainRequest("00" * 32, "run", 1, "update", np.zeros(3)),
    ):
        assert ask(house, request) == Refusal(Reason.NOT_APPROVED)
    events = house.journal("site 0")
    asked = {event.what for event in events if isinstance(event, Asked)}
    assert asked >= {"open_request", "train_request"}
    assert sum(isinstance(event, Left) and event.kind == "refusal" for event in events) >= 4
    assert {event.reason for event in events if isinstance(event, Refused)} >= {"not_approved"}


def test_a_sum_without_keys_a_mode_of_another_study_and_rubbish_are_refused(
    house: Consortium,
) -> None:
    study, weights = house.study.hash(), np.zeros(4)
    sum_request = SumRequest(study, "run", 1, "gradient", ((b"k" * 32,),), None, (), (), weights)
    assert ask(house, sum_request) == Refusal(Reason.OUT_OF_ORDER)
    assert ask(house, TrainRequest(study, "run", 1, "update", weights)) == Refusal(
        Reason.OUT_OF_ORDER
    )
    assert isinstance(ask(house, OpenRequest(study, "run")), AnnouncedKeys)


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.QUERY, MessageType.EVALUATE])
def test_rubbish_of_any_message_type_is_refused(house: Consortium, kind: str) -> None:
    rubbish = RecordDict({"x": ConfigRecord({"code": "import os"})})
    assert decode_reply(answered(house, rubbish, kind).content) == Refusal(Reason.NOT_APPROVED)


def test_what_a_reply_carries_beside_its_content_says_nothing(house: Consortium) -> None:
    """The times are the request's, no running time is told, the site names nothing."""
    with taken(house, malicious_bundle(house.folder / MARK)) as (grid, node, run):
        records = encode_request(OpenRequest("00" * 32, "run"))
        message = Message(records, node, MessageType.TRAIN, ttl=100.0)
        reply = exchanged(grid, message)
        assert reply.metadata.created_at == message.metadata.created_at
        assert reply.metadata.ttl == 100.0
        assert not reply.has_error()
        control = ControlHttpClient(f"http://{house.loopback}")
        told = control.ListRuns(ListRunsRequest(run_id=run)).run_dict[run]
        assert told.clientapp_runtime == 0.0


def test_nothing_of_a_message_stays_in_memory_once_it_is_answered(house: Consortium) -> None:
    """Flower keeps the parts of messages until somebody confirms them."""
    with taken(house, malicious_bundle(house.folder / MARK)) as (grid, node, _):
        message = Message(encode_request(OpenRequest("00" * 32, "run")), node, MessageType.TRAIN)
        reply = exchanged(grid, message)
        for number in (message.metadata.message_id, reply.metadata.message_id):
            with pytest.raises(ObjectPullError):
                make_pull_object_fn_protobuf(
                    grid._runtime_client.PullObject, grid.node, grid.run.run_id
                )(number)


def test_a_hospital_does_not_answer_for_another(
    house: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names another hospital's message inside its answer, where SuperLink does not look."""
    pair = house.pairs["site 1"]
    context = client_context(pair.certificate, pair.key, house.authority.path)
    liar = Fleet(house.public, context, key_of(pair))
    liar.activate()
    with taken(house, malicious_bundle(house.folder / MARK)) as (grid, node, _):
        records = encode_request(OpenRequest("00" * 32, "run"))
        asked = [Message(records, each, MessageType.TRAIN) for each in (liar.node, node)]
        numbers = grid.push_messages(asked)
        received = liar.pull()
        assert received is not None
        received.message.metadata.__dict__["_message_id"] = numbers[1]

        def told(message: Message) -> Any:
            head = message_to_proto(message)
            head.metadata.reply_to_message_id = numbers[0]
            return head

        monkeypatch.setattr(fleet, "message_to_proto", told)
        liar.reply(received, received.content)
        found: dict[str, bool] = {}

        def both() -> bool:
            for reply in grid.pull_messages([n for n in numbers if n not in found]):
                said = reply.content["polyclinic"]["body"]
                found[reply.metadata.reply_to_message_id] = b"refusal" in bytes(said)
            return len(found) == 2

        wait_for("both replies", both, LONG_S)
        assert found == {numbers[0]: False, numbers[1]: True}
    liar.close()


def answered(house: Consortium, records: RecordDict, kind: str) -> Message:
    with taken(house, malicious_bundle(house.folder / MARK)) as (grid, node, _):
        return exchanged(grid, Message(records, node, kind))


def exchanged(grid: Any, message: Message) -> Message:
    (number,) = grid.push_messages([message])
    found: list[Message] = []

    def came() -> bool:
        found.extend(grid.pull_messages([number]))
        return bool(found)

    wait_for("reply", came, LONG_S)
    return found[0]
