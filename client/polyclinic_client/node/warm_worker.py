"""The node's end of the worker: starts it, asks it, and survives its death."""

from __future__ import annotations

import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from polyclinic_common.errors import Code, NodeError

SILENCE = b""  # an answer never is: it has a header at least
LONGEST_ANSWER = 256 * 1024 * 1024


class WarmWorker:
    """A worker process, started when it is needed and stopped when it was idle for a while.

    Parameters
    ----------
    opener : str
        ``module:function`` that opens the hospital's sites, given its folder.
    folder : Path
        The hospital's folder.
    idle_s : float
        Seconds without a question after which the process is stopped.
    longest_s : float
        Seconds that an answer may take; then the process is taken for hung and is ended.
    """

    def __init__(self, opener: str, folder: Path, idle_s: float, longest_s: float):
        self._command = [sys.executable, "-m", "polyclinic_client.node.worker", opener, str(folder)]
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._asked = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return None if self._process is None else self._process.pid

    def ask(self, run: int, content: bytes) -> bytes | None:
        """Return the answer to a message, None for silence.

        Raises
        ------
        NodeError
            N002 if the worker died, hung or could not be started. The next question starts another.
        """
        try:
            link = self._link or self._start()
            link.send_bytes(str(run).encode())
            link.send_bytes(content)
            if not link.poll(self._longest_s):
                raise TimeoutError
            answer = link.recv_bytes(LONGEST_ANSWER)
        except (OSError, EOFError) as error:
            self.stop()
            what = "hung" if isinstance(error, TimeoutError) else "ended"
            raise NodeError(
                Code.NODE_WORKER,
                f"The worker {what} before it gave an answer; nothing was sent.",
                "It is started again with the next message; check memory if this repeats.",
            ) from None
        finally:
            self._asked = time.monotonic()
        return None if answer == SILENCE else answer

    def rest(self) -> None:
        """Stop the process if it was idle for long."""
        if self._process is not None and time.monotonic() - self._asked > self._idle_s:
            self.stop()

    def stop(self) -> None:
        """End the process; what it has not given back does not leave."""
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._link = self._process = None

    def _start(self) -> Connection:
        self._link, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  (this very interpreter)
                [*self._command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        return self._link
