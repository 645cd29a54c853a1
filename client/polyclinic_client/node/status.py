"""What a node says about itself, in a file of its folder: for `client status` and health checks."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from polyclinic_common.errors import Code, NodeError
from polyclinic_common.files import write_atomically

LOCK, STATUS = "node.lock", "node.json"


class NodeStatus(BaseModel):
    """How a node is.

    Attributes
    ----------
    pid : int
        Its process.
    since : float
        When it started, Unix seconds.
    connected : bool
        Whether it reached the server when it last tried.
    trouble : str
        What kept it from that.
    last_message : float
        When the last message came; 0 if none has.
    worker : int or None
        The worker's process, if there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    since: float
    connected: bool = False
    trouble: str = ""
    last_message: float = 0.0
    worker: int | None = None


class StatusFile:
    """Keeps a node's status up to date on disk."""

    def __init__(self, folder: Path, pid: int):
        self._path = folder / STATUS
        self._status = NodeStatus(pid=pid, since=time.time())
        self.update()

    def update(self, **changes: object) -> None:
        """Write what has changed."""
        following = self._status.model_copy(update=changes)
        if following != self._status or not self._path.exists():
            self._status = following
            write_atomically(self._path, following.model_dump_json().encode())


def read_status(folder: Path) -> NodeStatus | None:
    """Return the status of the node that runs in this folder, None if none does."""
    if not is_running(folder):
        return None
    try:
        return NodeStatus.model_validate_json((folder / STATUS).read_bytes())
    except (OSError, ValidationError):
        return None


def is_running(folder: Path) -> bool:
    """Say whether there is a node in this folder."""
    try:
        with (folder / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def only_node(folder: Path) -> Iterator[None]:
    """Be the only node of this folder.

    Raises
    ------
    NodeError
        N001 if there is another.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeError(
                Code.NODE_START,
                "The node does not start: there is one in this folder already.",
                "See `polyclinic client status`; stop that one first.",
            ) from None
        yield
