"""A hospital that sends rubbish counts as silent; the run of the others goes on.

The test is coordinator and hospitals, over a real server that starts no coordinator itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_object_id

from polyclinic_client.node.fleet import Fleet, Received, from_bytes, to_bytes
from polyclinic_common.identity.certificates import client_context
from polyclinic_common.wire import OpenRequest, Receipt, encode_reply
from polyclinic_server.rounds.mail import Mail
from tests.kits.consortium import Consortium, consortium, key_of
from tests.kits.malicious import malicious_bundle, taken


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    with consortium(tmp_path_factory.mktemp("consortium"), sites=3) as made:
        made.start_server(passive=True)
        yield made


def fleet_of(house: Consortium, name: str) -> Fleet:
    pair = house.pairs[name]
    context = client_context(pair.certificate, pair.key, house.authority.path)
    fleet = Fleet(house.public, context, key_of(pair))
    fleet.activate()
    return fleet


def headed(kind: str, body: bytes, *children: str) -> bytes:
    return f"{kind} {','.join(children)} {len(body)}".encode() + b"\x00" + body


def array(**changes: Any) -> bytes:
    body = {"dtype": "float64", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": []}
    return headed("Array", json.dumps(body | changes).encode())


RUBBISH = {
    "DecodeError": headed("Message", b"\xff\xff\xff"),
    "IndexError": array(arraychunk_ids=[3]),
    "TypeError": array(shape=["x"]),
    "RecursionError": headed("Array", b"[" * 200_000),
    "ValueError": b"\x00",
    "KeyError": headed("Nothing", b""),
    "no message": headed("ConfigRecord", b""),
}


def push(fleet: Fleet, received: Received, content: bytes) -> None:
    """Send a reply whose head is in order and whose one part has this content."""
    name = get_object_id(content)
    reply = Message(from_bytes(received.content), reply_to=received.message)
    reply.metadata.__dict__["_message_id"] = name
    pushed = fleet._client.PushMessages(
        PushMessagesRequest(
            node=fleet._node,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[ObjectTree(object_id=name)],
            clientapp_runtime_list=[0.0],
        )
    )
    assert list(pushed.objects_to_push) == [name]
    fleet._client.PushObject(
        PushObjectRequest(
            node=fleet._node,
            run_id=received.run,
            object_id=name,
            object_content=content,
            session_id=pushed.session_id,
        )
    )


@pytest.mark.parametrize("kind", RUBBISH)
def test_a_reply_that_is_no_message_is_silence(house: Consortium, kind: str) -> None:
    liar, honest = fleet_of(house, "site 0"), fleet_of(house, "site 1")
    with taken(house, malicious_bundle(house.folder / "mark")) as (grid, _, _run):
        mail = Mail(grid, {"liar": liar.node, "honest": honest.node}, 0.5)
        request = OpenRequest("00" * 32, "run")
        mail.ask(request, ["liar", "honest"], wait=False)
        said = encode_reply(Receipt("run"))
        for fleet in (liar, honest):
            received = fleet.pull()
            assert received is not None
            if fleet is liar:
                push(fleet, received, RUBBISH[kind])
            else:
                fleet.reply(received, to_bytes(said))
        assert mail.ask(request, ["liar", "honest"], wait=False) == {"honest": Receipt("run")}
    liar.close()
    honest.close()
