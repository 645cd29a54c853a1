"""The Flower ClientApp: decodes a message, asks the site, encodes its answer."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from polyclinic_client.site import Site
from polyclinic_common.errors import MessageError
from polyclinic_common.wire import Reason, Refusal, decode_request, encode_reply


def make_client_app(site_of: Callable[[Context], Site]) -> ClientApp:
    """Return the ClientApp; `site_of` gives the site that runs in a Flower context."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        try:
            request = decode_request(message.content)
        except MessageError:
            return Message(encode_reply(Refusal(Reason.BAD_MESSAGE)), reply_to=message)
        return Message(encode_reply(site_of(context).answer(request)), reply_to=message)

    return app
