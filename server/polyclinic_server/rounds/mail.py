"""Messages over any Flower grid: pushed at once, pulled with adaptive polling.

Flower's own `send_and_receive` sleeps a fixed three seconds between polls; this does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from flwr.app import Message, MessageType, RecordDict
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
LONGEST_PAUSE_S = 0.1
GRACE_S = 5.0  # for a node that is started again
WATCH_S = 2.0
KEPT = 2.0  # times the patience: so long Flower keeps a message, and takes its answer
LEAST_KEPT_S = 60.0
OFFLINE, NO_ANSWER = "offline", "no answer yet"

Watch = Callable[[str, Mapping[str, str]], None]


class Ask(Protocol):
    """Asks sites something."""

    def __call__(
        self, request: Request, sites: Sequence[str], *, wait: bool = True
    ) -> dict[str, Release]:
        """Return what came back, by site."""
        ...


def unwatched(what: str, waiting_for: Mapping[str, str]) -> None:
    """Take no notice of what is waited for."""


class Mail:
    """The messages of one run.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    node_of : mapping
        Flower's node of every site.
    patience_s : float
        Seconds to wait for answers.
    watch : callable
        Told every few seconds what is waited for, from whom, and why. It may raise.
    """

    def __init__(
        self, grid: Grid, node_of: Mapping[str, int], patience_s: float, watch: Watch = unwatched
    ):
        self._grid = grid
        self._node_of = node_of
        self._patience_s = patience_s
        self._watch = watch
        self._sent: dict[str, dict[str, str]] = {}
        self._here: dict[str, dict[str, Release]] = {}  # came while others were waited for

    def ask(
        self, request: Request, sites: Sequence[str], *, wait: bool = True
    ) -> dict[str, Release]:
        """Send `request` to these sites and return the releases that came in time, by site.

        A late answer to the same request, sent before, counts too. A site that did not answer in
        time is absent, as is one whose reply is an error or not exactly a message of the protocol.
        Without `wait`, what is there is returned at once, and a request that is still on its way is
        not sent again.
        """
        records = encode_request(request)
        sent = self._sent.setdefault(records.object_id, {})
        replies = self._here.setdefault(records.object_id, {})
        due = [s for s in sites if s not in replies and (wait or s not in sent.values())]
        self._send(records, _group(request), due, sent)
        began = watched = time.monotonic()
        pause = FIRST_PAUSE_S
        while True:
            if self._collect(sent, replies):
                pause = FIRST_PAUSE_S
            missing = [site for site in sites if site not in replies]
            waiting = {s: NO_ANSWER if s in sent.values() else OFFLINE for s in missing}
            now = time.monotonic()
            if not wait or not self._worthwhile(waiting, now - began):
                return {site: replies.pop(site) for site in sites if site in replies}
            if now - watched >= WATCH_S:
                self._watch(_group(request), waiting)
                watched = now
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _worthwhile(self, waiting: Mapping[str, str], waited_s: float) -> bool:
        """Say whether to wait on: for those offline only as long as it takes to start a node."""
        if not waiting:
            return False
        patience_s = self._patience_s
        if NO_ANSWER not in waiting.values():
            patience_s = min(patience_s, GRACE_S)
        return waited_s < patience_s

    def _send(
        self, records: RecordDict, group: str, sites: Sequence[str], sent: dict[str, str]
    ) -> None:
        """Push a message to each site; one that Flower does not take is not on its way."""
        kept_s = max(LEAST_KEPT_S, KEPT * self._patience_s)
        messages = [
            Message(records, self._node_of[site], MessageType.TRAIN, ttl=kept_s, group_id=group)
            for site in sites
        ]
        if messages:
            numbers = self._grid.push_messages(messages)
            sent |= {number: s for number, s in zip(numbers, sites, strict=True) if number}

    def _collect(self, sent: dict[str, str], replies: dict[str, Release]) -> bool:
        """Take what has come; an error of Flower takes the message off the way."""
        came = list(self._grid.pull_messages(list(sent))) if sent else []
        for reply in came:
            site = sent.pop(reply.metadata.reply_to_message_id, None)
            release = _read(reply)
            if site is not None and release is not None:
                replies[site] = release
        return bool(came)


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
