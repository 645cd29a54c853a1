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
    PrivateUpdate,
    Reason,
    Refusal,
    TrainRequest,
    decode_reply,
    encode_request,
)

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.25


def ask(
    grid: Grid, request: TrainRequest, node_of: Mapping[str, int], timeout_s: float
) -> dict[str, PrivateUpdate | Refusal]:
    """Send `request` to every site and return the replies that came in time, by site.

    A reply that is an error or not exactly a protocol message counts as the refusal
    ``bad_message``; a site that did not answer in time is absent.
    """
    records = encode_request(request)
    messages = [
        Message(records, node, MessageType.TRAIN, group_id=str(request.round_number))
        for node in node_of.values()
    ]
    waiting = dict(zip(grid.push_messages(messages), node_of, strict=True))
    replies: dict[str, PrivateUpdate | Refusal] = {}
    deadline, pause = time.monotonic() + timeout_s, FIRST_PAUSE_S
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            site = waiting.pop(reply.metadata.reply_to_message_id, None)
            if site is not None:
                replies[site] = _read(reply)
            pause = FIRST_PAUSE_S
        if not waiting or time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    return replies


def _read(reply: Message) -> PrivateUpdate | Refusal:
    if reply.has_error():
        return Refusal(Reason.BAD_MESSAGE)
    try:
        return decode_reply(reply.content)
    except MessageError:
        return Refusal(Reason.BAD_MESSAGE)
