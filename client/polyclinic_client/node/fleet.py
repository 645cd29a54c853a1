"""Flower's Fleet API from a hospital's side: this room's one file on Flower's internals.

Flower 1.41. Connections go out only, through the proxy that they are given, and never to where a
redirect points. App Bundles are never fetched.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import (
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    pull_objects,
    push_objects,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from polyclinic_client.proxy import Proxy

BEAT_S = 10
CALL_S = 30.0
OBJECTS_S = 60.0


class UnreachableError(Exception):
    """The server did not do what was asked of it; the text names kinds of failure alone."""


@dataclass(frozen=True)
class Received:
    """A message of the server.

    Attributes
    ----------
    message : Message
        Without what it holds.
    content : bytes
        What it holds, as `to_bytes` writes it.
    run : int
        Flower's number of the run that it belongs to.
    """

    message: Message
    content: bytes
    run: int


class Fleet:
    """The connection of one node.

    Parameters
    ----------
    address : str
        Host and port of the server.
    context : SSLContext
        Whom to trust, and the certificate to show.
    key : EllipticCurvePrivateKey
        The certificate's key, which is the node's key too.
    proxy : Proxy or None
        What to connect through; the environment is not looked at.
    """

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext,
        key: EllipticCurvePrivateKey,
        proxy: Proxy | None = None,
    ):
        logging.getLogger("flwr").setLevel(logging.ERROR)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        public = key.public_key()
        self._key = public_key_to_bytes(public)
        self._client = FleetHttpClient(
            f"https://{address}",
            interceptors=[NodeAuthHttpInterceptor(key, public)],
            verify=context,
            timeout=CALL_S,
        )
        self._client._client.close()
        self._client._client = httpx.Client(
            verify=context, timeout=CALL_S, trust_env=False, proxy=_http_proxy(proxy)
        )
        self._node = Node()

    def close(self) -> None:
        """Say goodbye, if anybody listens, and hang up."""
        try:
            with _reached():
                self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))
        except UnreachableError:
            pass
        self._client.close()

    @property
    def node(self) -> int:
        """Flower's number of this node; 0 before it was started."""
        return int(self._node.node_id)

    def activate(self) -> None:
        """Start this node at the server."""
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=BEAT_S)
        with _reached():
            self._node = Node(node_id=self._client.ActivateNode(request).node_id)
        TaskIdentity.task_id, TaskIdentity.node_id = 0, self._node.node_id

    def beat(self) -> None:
        """Tell the server that this node is there."""
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=BEAT_S)
        with _reached():
            self._client.SendNodeHeartbeat(request)

    def pull(self) -> Received | None:
        """Return the next message; the server may take a while to say that there is none."""
        with _reached():
            found = self._client.PullMessages(PullMessagesRequest(node=self._node))
            if not found.messages_list:
                return None
            message = message_from_proto(found.messages_list[0])
            tree, run = found.message_object_trees[0], message.metadata.run_id
            contents = pull_objects(
                [each.object_id for each in iterate_object_tree(tree)],
                make_pull_object_fn_protobuf(self._client.PullObject, self._node, run),
                max_time=OBJECTS_S,
            )
            whole = cast(Message, inflate_object_from_contents(tree.object_id, contents))
            return Received(message, to_bytes(whole.content), run)

    def bundle_of(self, run: int) -> bytes:
        """Return the SHA-256 of the App Bundle that a run names; the bundle stays where it is."""
        with _reached():
            found = self._client.GetRun(GetRunRequest(node=self._node, run_id=run))
            digest = bytes.fromhex(found.run.fab_hash)
            if len(digest) != hashlib.sha256().digest_size:
                raise ValueError
            return digest

    def reply(self, received: Received, content: bytes) -> None:
        """Send what the gate let out, with the times of the request and no running time."""
        with _reached():
            TaskIdentity.run_id = received.run
            reply = Message(from_bytes(content), reply_to=received.message)
            reply.metadata.created_at = received.message.metadata.created_at
            reply.metadata.ttl = received.message.metadata.ttl
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            pushed = self._client.PushMessages(
                PushMessagesRequest(
                    node=self._node,
                    messages_list=[message_to_proto(remove_content_from_message(reply))],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[0.0],
                )
            )
            push_objects(
                objects,
                make_push_object_fn_protobuf(
                    self._client.PushObject, self._node, received.run, pushed.session_id
                ),
                object_ids_to_push=set(pushed.objects_to_push),
            )


def _http_proxy(proxy: Proxy | None) -> httpx.Proxy | None:
    """Return a proxy as httpx takes it."""
    if proxy is None:
        return None
    headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
    return httpx.Proxy(f"http://{proxy.address}", headers=headers)


def to_bytes(content: RecordDict) -> bytes:
    """Return records as bytes, to be handed to another process."""
    return bytes(recorddict_to_proto(content).SerializeToString(deterministic=True))


def from_bytes(data: bytes) -> RecordDict:
    """Read records back.

    Raises
    ------
    ValueError
        If these are no records.
    """
    return recorddict_from_proto(RecordDictProto.FromString(data))


@contextmanager
def _reached() -> Iterator[None]:
    """Turn whatever keeps a call from succeeding into one error.

    Flower decodes here what the server sent, and a server can send anything: no decoder's list of
    errors is complete, and whatever is raised must neither end the node nor have its text shown.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise UnreachableError(f"status {error.response.status_code}") from error
    except Exception as error:
        raise UnreachableError(type(error).__name__) from error
