"""The process that computes: torch and the hospital's data are here, the network is not.

It gets messages from the node, one at a time, and gives back what the gate let out, or nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from polyclinic_client.node.warm_worker import ANSWER, DUE, SILENCE
from polyclinic_client.run.flower_app import TellingAnswers
from polyclinic_client.run.refusals import SilenceError
from polyclinic_client.run.update_responder import Memory

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Open the hospital's sites and answer until the node hangs up."""
    opener, folder, handle = sys.argv[1:]
    _die_with_node()
    _be_the_first_to_go()
    with Connection(int(handle)) as node:
        _serve(node, _imported(opener)(Path(folder)))


def _serve(node: Connection, sites: TellingAnswers) -> None:
    from polyclinic_client.node.fleet import from_bytes, to_bytes  # noqa: PLC0415  (half a second)

    memories: dict[bytes, Memory] = {}
    while True:
        try:
            run, content = node.recv_bytes(), node.recv_bytes()
        except EOFError:
            return
        memory = memories.setdefault(run, Memory())
        try:
            told = sites.answer(
                from_bytes(content), memory, lambda due: node.send_bytes(DUE + due.to_bytes())
            )
            answer = ANSWER + to_bytes(told)
        except SilenceError:
            answer = SILENCE
        node.send_bytes(answer)


def _imported(name: str) -> Callable[[Path], TellingAnswers]:
    module, _, attribute = name.partition(":")
    opener: Callable[[Path], TellingAnswers] = getattr(import_module(module), attribute)
    return opener


def _die_with_node() -> None:
    """Have the kernel end this process with the node (prctl(2)): nobody else stops a hang."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        sys.exit(1)


def _be_the_first_to_go() -> None:
    """When memory runs out, the kernel ends this process and not the node (proc(5))."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    main()
