"""Messages over any Flower grid: pushed at once, pulled with adaptive polling.

Flower's own `send_and_receive` sleeps a fixed three seconds between polls; this does not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from polyclinic_common.errors import MessageError
from polyclinic_common.wire import (
    Release,
    Request,
    SumRequest,
    TrainRequest,
    decode_reply,
    encode_request,
)

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.25


def ask(
    grid: Grid, request: Request, node_of: Mapping[str, int], timeout_s: float
) -> dict[str, Release]:
    """Send `request` to every site and return the releases that came in time, by site.

    A site that did not answer in time is absent, as is one whose reply is an error or not exactly
    a message of the protocol.
    """
    records = encode_request(request)
    group = _group(request)
    messages = [
        Message(records, node, MessageType.TRAIN, group_id=group) for node in node_of.values()
    ]
    waiting = dict(zip(grid.push_messages(messages), node_of, strict=True))
    replies: dict[str, Release] = {}
    deadline, pause = time.monotonic() + timeout_s, FIRST_PAUSE_S
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            site = waiting.pop(reply.metadata.reply_to_message_id, None)
            release = _read(reply)
            if site is not None and release is not None:
                replies[site] = release
            pause = FIRST_PAUSE_S
        if not waiting or time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    return replies


def _group(request: Request) -> str:
    """Return what Flower files the messages of a request under: its label and its round."""
    number = request.round_number if isinstance(request, TrainRequest | SumRequest) else 0
    return f"{request.label}:{number}"


def _read(reply: Message) -> Release | None:
    if reply.has_error():
        return None
    try:
        return decode_reply(reply.content)
    except MessageError:
        return None
