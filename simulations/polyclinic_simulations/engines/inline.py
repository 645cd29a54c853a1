"""The inline engine: Flower's `Grid` with the ClientApp called in this process.

The one file of this room that touches Flower beyond ``flwr.app``, ``flwr.clientapp`` and
``flwr.serverapp``: a message needs the process-global identity of its sender, and a grid gives
messages their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

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

    def __init__(self, client_app: ClientApp, nodes: Sequence[int]):
        self._client_app = client_app
        self._contexts = {node: _context(node) for node in nodes}
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
            context = self._contexts[message.metadata.dst_node_id]
            self._replies[number] = self._client_app(message, context)
            numbers.append(number)
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


def _context(node: int) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def run_inline(server_app: ServerApp, client_app: ClientApp, sites: int) -> None:
    """Run the apps with `sites` nodes, numbered from FIRST_SITE_NODE, in this process."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER_NODE
    grid = InlineGrid(client_app, range(FIRST_SITE_NODE, FIRST_SITE_NODE + sites))
    server_app(grid, _context(SERVER_NODE))
