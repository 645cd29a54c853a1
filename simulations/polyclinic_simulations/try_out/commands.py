"""Types Polyclinic's own commands, as an operator and as hospitals would."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyclinic_common.errors import Code, SimulationError
from polyclinic_simulations.try_out.typed import Started, Terminal

READY_S = 60.0
LONGEST_WORD = 200  # an invitation is longer


@dataclass
class Commands:
    """Runs commands in processes of their own, and ends what it started.

    Attributes
    ----------
    say : callable
        Told every command before it is typed.
    logs : Path
        Where the long-running commands write.
    """

    say: Callable[[str], None]
    logs: Path
    _terminal: Terminal = field(default_factory=Terminal)
    _running: list[Started] = field(default_factory=list)

    def run(self, *words: object) -> Any:
        """Type a command with ``--json`` and return what it answers.

        Raises
        ------
        SimulationError
            X004 if it fails; the text is the command's own.
        """
        self.say(f"$ {_line(words)}")
        return json.loads(self.text(*words, "--json"))

    def text(self, *words: object) -> str:
        """Type a command and return what it prints.

        Raises
        ------
        SimulationError
            X004 if it fails; the text is the command's own.
        """
        done = self._terminal.type(*words)
        if done.status != 0:
            raise _failed(words, done.err)
        return done.out

    def start(self, name: str, *words: object) -> Path:
        """Start a command that goes on, and return its log."""
        self.say(f"$ {_line(words)} &")
        started = self._terminal.start(self.logs / f"{name}.log", *words)
        self._running.append(started)
        return started.log

    def wait_for(self, log: Path, text: str) -> None:
        """Wait until a command has written a text.

        Raises
        ------
        SimulationError
            X004 if it ends or takes a minute.
        """
        deadline = time.monotonic() + READY_S
        while text not in log.read_text(encoding="utf-8"):
            ended = any(started.has_ended() for started in self._running)
            if ended or time.monotonic() > deadline:
                raise _failed((log.stem,), log.read_text(encoding="utf-8"))
            time.sleep(0.1)

    def stop(self) -> None:
        """End everything that was started, the last first."""
        for started in reversed(self._running):
            started.popen.terminate()
        for started in self._running:
            started.end()
        self._running.clear()


def _line(words: tuple[object, ...]) -> str:
    shown = [word if len(word) <= LONGEST_WORD else f"{word[:20]}…" for word in map(str, words)]
    return shlex.join(["polyclinic", *shown])


def _failed(words: tuple[object, ...], text: str) -> SimulationError:
    last = text.strip().splitlines()[-1:] or ["it wrote nothing"]
    return SimulationError(
        Code.TRY_FAILED,
        f"`{_line(words)}` did not do its work: {last[0]}",
        "Everything that was started has been stopped; the folder keeps the logs.",
    )
