"""The node's end of the worker: starts it, asks it, and survives its death."""

from __future__ import annotations

import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from polyclinic_client.gate.due import Due
from polyclinic_client.records.journal import Climbed
from polyclinic_common.errors import Code, NodeError

DUE, ANSWER, SILENCE = b"d", b"a", b"s"  # how what a worker says begins
LONGEST_ANSWER = 256 * 1024 * 1024


class LostWorkerError(NodeError):
    """The worker gave no answer.

    Attributes
    ----------
    climbed : Climbed or None
        What is to be written down where that took longer than an answer may.
    """

    climbed: Climbed | None = None


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
        Seconds within which a worker says when its answer leaves; one that does not, or whose
        answer is not there when nothing may leave any more, is taken for hung and is ended.
    """

    def __init__(self, opener: str, folder: Path, idle_s: float, longest_s: float):
        self._command = [
            sys.executable,
            "-m",
            "polyclinic_client.worker.worker",
            opener,
            str(folder),
        ]
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
        LostWorkerError
            N002 if the worker died, hung or could not be started, at a moment at which an answer
            could have left. The next question starts another.
        """
        due: Due | None = None
        try:
            link = self._link or self._start()
            link.send_bytes(str(run).encode())
            link.send_bytes(content)
            while (said := self._next(link, due))[:1] == DUE:
                due = Due.from_bytes(said[1:])
        except (OSError, EOFError) as error:
            self.stop()
            lost = _lost(hung=isinstance(error, TimeoutError))
            lost.climbed = _outwaited(due)
            raise lost from None
        finally:
            self._asked = time.monotonic()
        return said[1:] if said[:1] == ANSWER else None

    def _next(self, link: Connection, due: Due | None) -> bytes:
        """Return the next thing that the worker says."""
        if not link.poll(self._longest_s if due is None else max(0.0, due.end - time.time())):
            raise TimeoutError
        return link.recv_bytes(LONGEST_ANSWER)

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


def _lost(*, hung: bool) -> LostWorkerError:
    return LostWorkerError(
        Code.NODE_WORKER,
        f"The worker {'hung' if hung else 'ended'} before it gave an answer; nothing was sent.",
        "It is started again with the next message; check memory if this repeats.",
    )


def _outwaited(due: Due | None) -> Climbed | None:
    """Wait until an answer could have left: when the worker died tells how far it had come."""
    if due is None:
        return None
    step = due.at(time.time())
    time.sleep(max(0.0, step.moment - time.time()))
    return due.climbed(step) if step.number > due.steps[0].number else None
