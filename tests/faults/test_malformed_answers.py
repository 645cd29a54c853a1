"""Whatever a server answers, a node stays: it backs off, says the class of what failed, goes on."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from flwr.app import Message, MessageType
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeResponse, PullMessagesResponse
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.run_pb2 import GetRunResponse, Run
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
)

from polyclinic_client.node.fleet import Fleet, UnreachableError
from polyclinic_client.node.node import Node
from polyclinic_client.node.status import StatusFile
from polyclinic_client.node.warm_worker import WarmWorker
from polyclinic_client.records.journal import Journal
from polyclinic_common.identity.certificates import client_context
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.wire import OpenRequest, encode_request
from polyclinic_simulations.engines.inline import be_server
from tests.kits.consortium import Authority, key_of, wait_for

RUN, NODE = 7, 5
Answers = dict[str, bytes]


def request() -> Message:
    be_server()
    message = Message(encode_request(OpenRequest("00" * 32, "run")), NODE, MessageType.TRAIN)
    message.metadata.__dict__["_run_id"] = RUN
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def honest(bundle: str = "ab" * 32) -> Answers:
    """What a server answers, by the last part of the path, to a node with one message waiting."""
    message = request()
    pulled = PullMessagesResponse(
        messages_list=[message_to_proto(remove_content_from_message(message))],
        message_object_trees=[get_object_tree(message)],
    )
    return {
        "activate-node": ActivateNodeResponse(node_id=NODE).SerializeToString(),
        "pull-messages": pulled.SerializeToString(),
        "get-run": GetRunResponse(run=Run(fab_hash=bundle)).SerializeToString(),
    } | {
        name: PullObjectResponse(
            object_found=True, object_available=True, object_content=each.deflate()
        ).SerializeToString()
        for name, each in get_all_nested_objects(message).items()
    }


def parts(content: bytes) -> Answers:
    """The same, but the message's one part has this content."""
    answers = honest()
    pulled = PullMessagesResponse.FromString(answers["pull-messages"])
    tree = pulled.message_object_trees[0]
    del tree.children[:]
    tree.object_id = get_object_id(content)
    part = PullObjectResponse(object_found=True, object_available=True, object_content=content)
    answers |= {
        "pull-messages": pulled.SerializeToString(),
        tree.object_id: part.SerializeToString(),
    }
    return answers


def headed(kind: str, body: bytes) -> bytes:
    return f"{kind}  {len(body)}".encode() + b"\x00" + body


def without_tree() -> Answers:
    pulled = PullMessagesResponse.FromString(honest()["pull-messages"])
    del pulled.message_object_trees[:]
    return honest() | {"pull-messages": pulled.SerializeToString()}


def broken_array() -> bytes:
    body = {"dtype": "float64", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": [3]}
    return headed("Array", json.dumps(body).encode())


MALFORMED: dict[str, Callable[[], Answers]] = {
    "no hexadecimal bundle": lambda: honest("zz"),
    "a short bundle": lambda: honest("ab"),
    "no bundle": lambda: honest(""),
    "no tree (IndexError)": without_tree,
    "no message (DecodeError)": lambda: parts(headed("Message", b"\xff\xff\xff")),
    "no part (IndexError)": lambda: parts(broken_array()),
    "a list (TypeError)": lambda: parts(headed("Array", b"[1]")),
    "deep nesting (RecursionError)": lambda: parts(headed("Array", b"[" * 200_000)),
    "an unknown kind (KeyError)": lambda: parts(headed("Nothing", b"")),
    "another kind (AttributeError)": lambda: parts(headed("ConfigRecord", b"")),
    "no protocol buffer (DecodeError)": lambda: honest() | {"pull-messages": b"\xff\xff"},
}


class Liar:
    """A server that gives prepared answers."""

    def __init__(self, answers: Answers):
        self.answers = answers
        self.visits: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.visits.append(name)
        if name == "pull-object":
            name = next((n for n in self.answers if n.encode() in request.content), name)
        return httpx.Response(
            200,
            content=self.answers.get(name, b""),
            headers={"content-type": "application/protobuf"},
        )


def fleet_to(liar: Liar, folder: Path) -> Fleet:
    """A node's connection of which only the socket is another."""
    authority = Authority(folder)
    pair = authority.issue("site")
    context = client_context(pair.certificate, pair.key, authority.path)
    fleet = Fleet("localhost:1", context, key_of(pair))
    fleet._client._client = httpx.Client(
        base_url="https://localhost:1", transport=httpx.MockTransport(liar)
    )
    return fleet


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_answer_ends_no_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    liar = Liar(MALFORMED[kind]())
    worker = WarmWorker("none:none", tmp_path, 300.0, 5.0)
    with Journal.create(tmp_path / "journal.sqlite", Identity.generate()) as journal:
        node = Node(fleet_to(liar, tmp_path), worker, journal, StatusFile(tmp_path, os.getpid()))
        running = threading.Thread(target=node.run)
        running.start()
        try:
            wait_for("third try", lambda: liar.visits.count("activate-node") >= 3, 10.0)
            assert running.is_alive()
        finally:
            node.stopping.set()
            running.join(timeout=10)
    troubles = re.findall(r"out of reach \((.*)\); again", caplog.text)
    assert troubles
    assert all(each.isidentifier() for each in troubles)  # a class, never an error's text


def test_a_node_waits_longer_each_time_that_an_answer_is_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that brings no answer in order does not set the pause back."""
    waited: list[float] = []
    liar = Liar(honest("zz"))
    with Journal.create(tmp_path / "journal.sqlite", Identity.generate()) as journal:
        worker = WarmWorker("none:none", tmp_path, 300.0, 5.0)
        node = Node(fleet_to(liar, tmp_path), worker, journal, StatusFile(tmp_path, os.getpid()))

        def wait(seconds: float) -> bool:
            waited.append(seconds)
            if len(waited) == 4:
                node.stopping.set()
            return node.stopping.is_set()

        monkeypatch.setattr(node, "_beat", lambda: None)
        monkeypatch.setattr(node.stopping, "wait", wait)
        node.run()
    assert waited == [0.25, 0.5, 1.0, 2.0]


def test_a_malformed_answer_to_a_reply_is_no_other_error(tmp_path: Path) -> None:
    """The message that it answers has no content at all, so that no reply can be made to it."""
    liar = Liar(honest())
    fleet = fleet_to(liar, tmp_path)
    fleet.activate()
    received = fleet.pull()
    assert received is not None
    received.message.metadata.__dict__["_ttl"] = None
    with pytest.raises(UnreachableError, match=r"^[A-Za-z]+$"):
        fleet.reply(received, received.content)


def test_nothing_that_a_heartbeat_brings_ends_the_heartbeat(tmp_path: Path) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise AttributeError("secret")

    fleet = fleet_to(Liar(honest()), tmp_path)
    fleet._client._client = httpx.Client(
        base_url="https://localhost:1", transport=httpx.MockTransport(broken)
    )
    with pytest.raises(UnreachableError, match=r"^AttributeError$"):
        fleet.beat()
