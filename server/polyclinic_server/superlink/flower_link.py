"""Flower's SuperLink in this process: the one file of this room that touches Flower's internals.

Flower 1.41. Its Fleet, Control and Runtime APIs are one web application, and the Control API is
not authenticated; :mod:`polyclinic_server.superlink.fleet_gate` decides who reaches what.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import httpx
from flwr.app import Message, RecordDict
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SubStatus
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    StartRunRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
)
from flwr.server.superlink.linkstate import InMemoryLinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLWR_IN_MEMORY_DB_NAME,
    TaskType,
)
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.routers.runtime.tracing import RuntimeTracingMiddleware
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.servicer.runtime.runtime_handlers import acquire_task
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid
from flwr.superlink.main import create_app
from flwr.superlink.routers.control.middlewares import (
    ControlEventLogMiddleware,
    ControlLicenseMiddleware,
    ControlSensitiveResponseMiddleware,
)
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from google.protobuf.message import DecodeError

from polyclinic_common.errors import Code, PolyclinicError, ServerError
from polyclinic_server.superlink.app_bundle import RUN, make_bundle

MOST_PARTS = 64  # of what a node pushes at once: a reply has six, and one more for every 20 MB
NODE_KEY_HEADER = FLEET_HTTP_PUBLIC_KEY_HEADER.encode()
# For licences, event logs and traces of Flower's own service, which are all off here.
IDLE_MIDDLEWARE: set[object] = {
    ControlEventLogMiddleware,
    ControlLicenseMiddleware,
    ControlSensitiveResponseMiddleware,
    FleetEventLogMiddleware,
    RuntimeTracingMiddleware,
}


def flower_settings(folder: Path) -> dict[str, str]:
    """Return Flower's environment: files in `folder`, its state in memory, no word to anybody."""
    return {
        "FLWR_HOME": str(folder),
        "FLWR_DATABASE": FLWR_IN_MEMORY_DB_NAME,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }


@dataclass(frozen=True)
class Task:
    """A run of Flower that waits for its ServerApp.

    Attributes
    ----------
    number : int
        Flower's number of the task.
    token : str
        What its process shows to the Runtime API.
    run : str
        Our name of the run.
    bundle : str
        SHA-256 of the App Bundle that was submitted with it.
    """

    number: int
    token: str
    run: str
    bundle: str


class SuperLink:
    """Flower's SuperLink. It forgets everything when it ends: what counts, our own stores keep.

    Attributes
    ----------
    app : ASGI application
        All of its APIs.
    """

    def __init__(self, folder: Path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ |= flower_settings(folder)
        logging.getLogger("flwr").setLevel(logging.WARNING)
        self.app = create_app()
        self.app.user_middleware = [
            each for each in self.app.user_middleware if each.cls not in IDLE_MIDDLEWARE
        ]
        self.app.state.enable_supernode_auth = True  # nodes cannot register themselves
        self._state: InMemoryLinkState = self.app.state.linkstate_factory.state()

    def node_of(self, key: bytes) -> int:
        """Return the node with this public key (PEM), registered if it is not."""
        known = self._state.get_node_id_by_public_key(key)
        if known is not None:
            return known
        return self._state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 0.0)

    def welcome(self, key: bytes) -> None:
        """Let a node start: also one that Flower takes for running, for it was killed.

        What it had been given and not answered, it is given again.
        """
        node = self.node_of(key)
        with self._state.lock:
            self._state.deactivate_node(node)
            for message in self._messages_for(node):
                if message.metadata.message_id not in self._state.message_ins_id_to_message_res_id:
                    message.metadata.delivered_at = ""

    def has_mail(self, key: bytes) -> bool:
        """Say whether there is a message for the node with this public key, and all its parts."""
        with self._state.lock:
            node = self._state.get_node_id_by_public_key(key)
            return any(
                not message.metadata.delivered_at and self._is_whole(message.metadata.message_id)
                for message in self._messages_for(node)
            )

    def _messages_for(self, node: int | None) -> list[Message]:
        messages = self._state.message_ins_store.values()
        return [message for message in messages if message.metadata.dst_node_id == node]

    def _is_whole(self, message: str) -> bool:
        store = self._state.object_store
        try:
            parts = [each.object_id for each in iterate_object_tree(store.get_object_tree(message))]
        except NoObjectInStoreError:
            return False
        return all(store.get(part) for part in parts)

    def next_task(self) -> Task | None:
        """Claim the next waiting task."""
        found = acquire_task(
            AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]), self._state
        )
        if not found.token:
            return None
        (run,) = self._state.get_run_info(run_ids=[found.task.run_id])
        name = str(run.override_config.get(RUN, ""))
        return Task(found.task.task_id, found.token, name, run.fab_hash)

    def keep(self, task: Task) -> None:
        """Keep a claimed task from expiring: Flower waits half a minute for its process."""
        self._state.acknowledge_task_heartbeat(task.number)

    def give_up(self, task: Task, why: str) -> None:
        """Mark a task failed, unless it is over."""
        self._state.finish_task(task.number, SubStatus.FAILED, why)


def speaks_for_itself(body: bytes) -> bool:
    """Say whether all messages that a node pushes name this node, and have no more parts than ours.

    SuperLink keeps a row for every part that is announced.
    """
    try:
        pushed = PushMessagesRequest.FromString(body)
    except DecodeError:
        return False
    parts = chain.from_iterable(map(iterate_object_tree, pushed.message_object_trees))
    if next(islice(parts, MOST_PARTS, None), None) is not None:
        return False
    return all(
        message.metadata.src_node_id == pushed.node.node_id for message in pushed.messages_list
    )


class Control:
    """Flower's Control API on the loopback listener.

    Parameters
    ----------
    address : str
        Host and port.
    """

    def __init__(self, address: str):
        self._client = ControlHttpClient(f"http://{address}")
        self._client._client = httpx.Client(trust_env=False)  # no proxy on loopback

    def start(self, run: str) -> int:
        """Start a Flower run for our run of this name; return Flower's number."""
        request = StartRunRequest(
            fab=Fab(content=make_bundle()), override_config=user_config_to_proto({RUN: run})
        )
        with _reached():
            return int(self._client.StartRun(request).run_id)


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise ServerError(
            Code.SERVER_UNREACHABLE,
            "The server did not take the request on its loopback address.",
            "Start it with `polyclinic server up`, or look into its log.",
        ) from error


class PromptGrid(HttpGrid):
    """Flower's grid, but a reply of which parts are still on their way does not hold up others."""

    def __init__(self, address: str, token: str):
        super().__init__(address, insecure=True, token=token)
        self._coming: dict[str, tuple[ObjectTree, str]] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages that are here as a whole."""
        coming = {asked for _, asked in self._coming.values()}
        waiting = [number for number in message_ids if number not in coming]
        if waiting:
            request = PullAppMessagesRequest(message_ids=waiting)
            found = self._runtime_client.PullMessages(request)
            for head, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                self._coming[tree.object_id] = tree, head.metadata.reply_to_message_id
        whole: list[Message] = []
        for tree, asked in list(self._coming.values()):
            try:
                message = _message_of(tree, self._parts(tree))
            except ObjectUnavailableError:
                continue
            except ObjectPullError:
                message = None  # it never came
            if message is not None:
                # What it replies to is what SuperLink checked, not what its sender put inside.
                message.metadata.__dict__["_reply_to_message_id"] = asked
                whole.append(message)
            self._forget(tree.object_id, asked)
        return whole

    def _parts(self, tree: ObjectTree) -> dict[str, bytes]:
        pull = make_pull_object_fn_protobuf(
            self._runtime_client.PullObject, self.node, self.run.run_id
        )
        return {each.object_id: pull(each.object_id) for each in iterate_object_tree(tree)}

    def _forget(self, *messages: str) -> None:
        """Have the parts of messages deleted: nobody else does."""
        for number in messages:
            self._coming.pop(number, None)
            self._runtime_client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self.node, run_id=self.run.run_id, message_object_id=number
                )
            )


def _message_of(tree: ObjectTree, parts: dict[str, bytes]) -> Message | None:
    """Return the message that a hospital sent; None if it is none, and its sender counts as silent.

    Flower decodes here what one hospital sent, and that must not end the run of all others: no
    decoder's list of errors is complete.
    """
    try:
        message = inflate_object_from_contents(tree.object_id, parts)
    except Exception:  # noqa: BLE001  (the boundary to a hospital that nobody has to trust)
        return None
    if not isinstance(message, Message):
        return None
    is_whole = message.has_error() or isinstance(message.content, RecordDict)
    return message if is_whole else None


@contextmanager
def task_grid(address: str, token: str) -> Iterator[Grid]:
    """Take up a task as its ServerApp, give the grid, and report how it ended."""
    client = RuntimeHttpClient.from_server_address(
        address,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"),
            RuntimeTokenHttpInterceptor(token=token),
        ],
    )
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    grid = PromptGrid(address, token)
    ended, details = SubStatus.FAILED, "the coordinator failed"
    try:
        given = client.PullTaskInput(PullTaskInputRequest())
        heartbeat.start()
        TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        run = Run.create_empty(given.run.run_id)
        grid.set_run(run)
        yield grid
        ended, details = SubStatus.COMPLETED, ""
    except PolyclinicError as error:
        details = error.code.value
        raise
    finally:
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=ended, details=details))
        if heartbeat.is_running:
            heartbeat.stop()
        grid.close()
        client.close()
