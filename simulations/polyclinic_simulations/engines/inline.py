"""The inline engine: Flower's `Grid` with the ClientApp called in this process.

The one file of this room that touches Flower beyond ``flwr.app``, ``flwr.clientapp`` and
``flwr.serverapp``: a message needs the process-global identity of its sender, and a grid gives
messages their numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count

from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from polyclinic_client.run.refusals import SilenceError

SERVER_NODE = 1
FIRST_SITE_NODE = 2


class InlineGrid(Grid):
    """Delivers every message at once by calling the ClientApp.

    Parameters
    ----------
    client_app : ClientApp
        The app that every node runs.
    nodes : sequence of int
        Flower's node numbers, one a site.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: Sequence[int],
    ):
        self._client_app = client_app
        self._contexts = {node: _context(node, index) for index, node in enumerate(nodes)}
        self._run = Run.create_empty(1)
        self._numbers = count(1)
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message from the server."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages and keep the replies; returns the messages' numbers."""
        numbers = []
        for message in messages:
            number = str(next(self._numbers))
            message.metadata.__dict__["_message_id"] = number
            numbers.append(number)
            context = self._contexts[message.metadata.dst_node_id]
            with suppress(SilenceError):
                self._replies[number] = self._client_app(message, context)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, each once."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages and return the replies."""
        del timeout
        return self.pull_messages(self.push_messages(messages))


def _context(node: int, partition: int) -> Context:
    """Return a context that names its partition as Flower's own simulation does."""
    config: UserConfig = {"partition-id": partition}
    return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})


def nodes_in_order(grid: Grid) -> list[int]:
    """Return the nodes' numbers, the first partition's first."""
    return list(grid.get_node_ids())


def be_server() -> None:
    """Take a server's identity, without which this process can make no message, and be quiet."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER_NODE


def run(
    server_app: ServerApp,
    client_app: ClientApp,
    sites: int,
) -> None:
    """Run the apps with `sites` nodes, numbered from FIRST_SITE_NODE, in this process."""
    be_server()
    grid = InlineGrid(client_app, range(FIRST_SITE_NODE, FIRST_SITE_NODE + sites))
    server_app(grid, _context(SERVER_NODE, 0))
