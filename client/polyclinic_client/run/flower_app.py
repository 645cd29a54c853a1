"""The Flower ClientApp: hands a message to the site and returns what the gate let out.

What the site remembers between rounds lies in Flower's context, so that any process of the node
can answer the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from polyclinic_client.gate.due import Due
from polyclinic_client.run.update_responder import Memory

_PERSONAL = "polyclinic.personal"


class Answers(Protocol):
    """Answers messages."""

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        """Return what leaves in answer to a message; updates `memory`."""
        ...


class TellingAnswers(Protocol):
    """Answers messages, and tells beforehand when the answer leaves."""

    def answer(
        self, content: RecordDict, memory: Memory, tell: Callable[[Due], object]
    ) -> RecordDict:
        """Return what leaves in answer to a message; updates `memory`."""
        ...


def make_client_app(site_of: Callable[[Context], Answers]) -> ClientApp:
    """Return the ClientApp; `site_of` gives the site that runs in a Flower context."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        memory = read_memory(context)
        content = site_of(context).answer(message.content, memory)
        write_memory(context, memory)
        return _reply(content, message)

    return app


def _reply(content: RecordDict, message: Message) -> Message:
    """Return the reply, with the times of the request: Flower's own tell when it was made."""
    reply = Message(content, reply_to=message)
    reply.metadata.created_at = message.metadata.created_at
    reply.metadata.ttl = message.metadata.ttl
    return reply


def read_memory(context: Context) -> Memory:
    """Return what the site remembers of this run."""
    personal = context.state.get(_PERSONAL)
    if isinstance(personal, ArrayRecord):
        return Memory(personal["weights"].numpy())
    return Memory()


def write_memory(context: Context, memory: Memory) -> None:
    """Keep what the site remembers of this run."""
    if memory.personal is not None:
        context.state[_PERSONAL] = ArrayRecord({"weights": Array(memory.personal)})
