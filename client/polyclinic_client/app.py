"""The Flower ClientApp: decodes a message, asks the site, encodes its answer.

What the site remembers between rounds lies in Flower's context, so that any process of the node
can answer the next one.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from polyclinic_client.mechanisms import Memory
from polyclinic_client.site import Site
from polyclinic_common.errors import MessageError
from polyclinic_common.wire import Reason, Refusal, decode_request, encode_reply

_ROUND = "polyclinic.round"
_PERSONAL = "polyclinic.personal"


def make_client_app(site_of: Callable[[Context], Site]) -> ClientApp:
    """Return the ClientApp; `site_of` gives the site that runs in a Flower context."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        try:
            request = decode_request(message.content)
        except MessageError:
            return Message(encode_reply(Refusal(Reason.BAD_MESSAGE)), reply_to=message)
        memory = read_memory(context)
        reply = site_of(context).answer(request, memory)
        write_memory(context, memory)
        return Message(encode_reply(reply), reply_to=message)

    return app


def read_memory(context: Context) -> Memory:
    """Return what the site remembers of this run."""
    kept, personal = context.state.get(_ROUND), context.state.get(_PERSONAL)
    last_round = int(str(kept["last"])) if isinstance(kept, ConfigRecord) else 0
    if isinstance(personal, ArrayRecord):
        return Memory(last_round, personal["weights"].numpy())
    return Memory(last_round)


def write_memory(context: Context, memory: Memory) -> None:
    """Keep what the site remembers of this run."""
    context.state[_ROUND] = ConfigRecord({"last": memory.last_round})
    if memory.personal is not None:
        context.state[_PERSONAL] = ArrayRecord({"weights": Array(memory.personal)})
