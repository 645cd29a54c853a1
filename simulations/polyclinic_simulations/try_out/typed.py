"""Polyclinic's own commands, typed in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = (sys.executable, "-c", "from polyclinic_common.cli.main import main; main()")
STOP_S = 20.0


@dataclass(frozen=True)
class Typed:
    """What a command did.

    Attributes
    ----------
    status : int
        How it ended.
    out, err : str
        What it printed.
    """

    status: int
    out: str
    err: str


class Started:
    """A command that goes on until it is stopped.

    Attributes
    ----------
    popen : subprocess.Popen
        Its process.
    log : Path
        Where it writes.
    """

    def __init__(self, popen: subprocess.Popen[bytes], log: Path):
        self.popen = popen
        self.log = log

    def said(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(encoding="utf-8")

    def has_ended(self) -> bool:
        """Say whether it goes on no more."""
        return self.popen.poll() is not None

    def end(self) -> int:
        """Wait for a command that was told to stop, kill it if it does not; return its status."""
        try:
            return self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()


@dataclass(frozen=True)
class Terminal:
    """Where commands are typed.

    Attributes
    ----------
    program : tuple of str
        What the word ``polyclinic`` stands for.
    folder : Path or None
        The working folder; None for that of this process.
    variables : mapping
        What the environment holds beside what it holds for this process.
    longest_s : float or None
        When a command is given up.
    """

    program: tuple[str, ...] = PROGRAM
    folder: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    longest_s: float | None = None

    def type(self, *words: object, answers: str = "") -> Typed:
        """Type a command, and `answers` to what it asks; return what it did."""
        done = subprocess.run(  # noqa: S603  (this interpreter, this package)
            [*self.program, *map(str, words)],
            cwd=self.folder,
            env=os.environ | self.variables,
            input=answers,
            capture_output=True,
            text=True,
            timeout=self.longest_s,
            check=False,
        )
        return Typed(done.returncode, done.stdout, done.stderr)

    def start(self, log: Path, *words: object, apart: bool = False) -> Started:
        """Type a command that goes on; `apart` gives it a process group as a shell does."""
        with log.open("ab") as file:
            popen = subprocess.Popen(  # noqa: S603  (this interpreter, this package)
                [*self.program, *map(str, words)],
                cwd=self.folder,
                env=os.environ | self.variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=apart,
            )
        return Started(popen, log)
