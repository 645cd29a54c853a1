"""How many entries of a list fit into one message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from polyclinic_common.consortium.transport import LARGEST_STUDY

LARGEST_LIST = LARGEST_STUDY + (1 << 16)  # bytes of a page: the largest study and what it needs
_FRAME = 8  # bytes around an entry of a list, at most
Listed = TypeVar("Listed", bound=Message)


def fitting(messages: Iterable[Listed]) -> Iterator[Listed]:
    """Give messages from the first on, at least one, as long as they fit into one list."""
    size = 0
    for message in messages:
        size += message.ByteSize() + _FRAME
        if size > LARGEST_LIST and size > message.ByteSize() + _FRAME:
            return
        yield message
