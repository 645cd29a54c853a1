"""Commands typed as people type them: the installed script, through the driver of the product."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyclinic_common.cli.main import main
from polyclinic_simulations.try_out.typed import Started, Terminal, Typed

SCRIPT = Path(sys.executable).with_name("polyclinic")
VARIABLES = {"COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
LONGEST_S = 600.0


def terminal(folder: Path | None = None) -> Terminal:
    """Return a wide terminal, opened in a folder."""
    return Terminal((str(SCRIPT),), folder, VARIABLES, LONGEST_S)


def typed(*words: object, answers: str = "", folder: Path | None = None) -> Typed:
    """Type a command, whatever it does; it never ends in a traceback."""
    done = terminal(folder).type(*words, answers=answers)
    assert "Traceback" not in done.out + done.err, done.err
    return done


def output(*words: object, folder: Path | None = None) -> str:
    """Return what a command prints that does its work."""
    done = typed(*words, folder=folder)
    assert done.status == 0, done.err
    return done.out


def answer(*words: object, answers: str = "", folder: Path | None = None) -> Any:
    """Return what a command answers with ``--json``."""
    done = typed(*words, "--json", answers=answers, folder=folder)
    assert done.status == 0, done.err
    return json.loads(done.out)


def refusal(*words: object, answers: str = "", folder: Path | None = None) -> tuple[str, str]:
    """Return code and remedy of the error in which a command ends."""
    done = typed(*words, "--json", answers=answers, folder=folder)
    assert done.status != 0, done.out
    found = json.loads(done.err.splitlines()[-1])
    return found["error"], found["remedy"]


def typed_here(*words: object) -> Typed:
    """Type a command in this process, which takes no second to start; return what it did."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return Typed(status, out.getvalue(), err.getvalue())


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)


class Running(Started):
    """A command that runs until it is stopped, in a process group of its own as in a terminal."""

    def __init__(self, log: Path, *words: object, folder: Path | None = None):
        started = terminal(folder).start(log, *words, apart=True)
        super().__init__(started.popen, log)

    def wait_for(self, words: str) -> None:
        def ready() -> bool:
            assert not self.has_ended(), self.said()
            return words in self.said()

        wait_for(words, ready)

    def signal(self, number: int) -> int:
        """Send a signal to the whole group, as a terminal does, and return how it ended."""
        os.killpg(self.popen.pid, number)
        return self.popen.wait(timeout=60)

    def stop(self) -> None:
        """Stop it as systemd does, and see that it went quietly."""
        self.popen.terminate()
        assert self.popen.wait(timeout=20) == 0, self.said()
        assert "Traceback" not in self.said(), self.said()
