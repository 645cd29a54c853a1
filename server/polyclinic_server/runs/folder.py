"""What the server keeps of a run: one folder with description, progress, checkpoint and model."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from polyclinic_common.errors import Code, PolyclinicError, RunError
from polyclinic_common.files import write_atomically
from polyclinic_common.study.manifest import Study

RUNS, ADDRESS = "runs", "loopback"  # in the server's folder: all runs; where it listens for us
RUN_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
What = Literal["submitted", "started", "waiting", "round", "finished", "stopped", "failed"]
ENDS = ("finished", "stopped", "failed")
CUT_OFF = "cut off"
FOLLOW_S = 0.2
ENDING_S = 3.0  # for a coordinator that has just written down its end


class Record(BaseModel):
    """Something kept in a run's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RunSite(Record):
    """A hospital that takes part.

    Attributes
    ----------
    node_key : str
        Public key of its certificate, PEM: what Flower knows its node by.
    declared : int
        Its declared patients.
    held_out : int
        0. Earlier versions kept a count of held-out patients here; nothing reads it.
    identity : str
        Its identity key, hexadecimal: what it signs with.
    """

    node_key: str
    declared: int = Field(gt=0)
    held_out: int = Field(default=0, ge=0)
    identity: str = Field(pattern=r"^[0-9a-f]{64}$")


class RunDescription(Record):
    """A run, fixed before it starts.

    Attributes
    ----------
    run : str
        Its name, which hospitals' ledgers and masks bind.
    study : str
        The study, canonical JSON.
    sites : dict
        The hospitals that approved this study, by name.
    largest : int
        The largest declared size in the study's roster, participants or not.
    fewest : int
        Fewest participants of a round: the study's m, or more.
    patience_s : float
        Seconds to wait for a hospital before it is asked again, and then left out.
    seed : int
        Of the public starting point of hidden layers.
    """

    run: str = Field(pattern=RUN_NAME)
    study: str
    sites: dict[str, RunSite]
    largest: int = Field(gt=0)
    fewest: int = Field(gt=0)
    patience_s: float = Field(default=60.0, gt=0)
    seed: int = 0

    @field_validator("study")
    @classmethod
    def _is_study(cls, text: str) -> str:
        Study.model_validate_json(text)
        return text

    @model_validator(mode="after")
    def _keeps_the_studys_m(self) -> Self:
        study = self.parsed_study
        if study.privacy.mode == "secure-sum" and self.fewest < study.m:
            raise ValueError("no run asks for fewer participants than its study")
        if len(self.sites) < self.fewest:
            raise ValueError("fewer hospitals approved than have to take part")
        return self

    @property
    def parsed_study(self) -> Study:
        """The study."""
        return Study.model_validate_json(self.study)


class Event(Record):
    """Something that happened in a run.

    Attributes
    ----------
    at : float
        When, Unix seconds.
    what : str
        Kind of event.
    round, rounds : int
        The round it is about, of how many.
    sites : tuple of str
        Who answered in this round.
    seconds : float
        What the round took.
    waiting_for : dict
        Hospitals that are waited for, and why.
    refused : dict
        Hospitals whose answers of this round do not stand, and why.
    code, text : str
        Why the run stopped or failed.
    """

    at: float
    what: What
    round: int = 0
    rounds: int = 0
    sites: tuple[str, ...] = ()
    seconds: float = 0.0
    waiting_for: dict[str, str] = Field(default_factory=dict)
    refused: dict[str, str] = Field(default_factory=dict)
    code: str = ""
    text: str = ""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @staticmethod
    def create(runs: Path, description: RunDescription) -> RunFolder:
        """Make the folder of a new run in the folder of all runs.

        Raises
        ------
        RunError
            R005 if there is a run of this name.
        """
        folder = RunFolder(runs / description.run)
        try:
            folder.path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise RunError(
                Code.RUN_EXISTS,
                f"There is a run {description.run} already.",
                "Resume it, or give the new run another name.",
            ) from None
        write_atomically(folder.path / "run.json", description.model_dump_json().encode())
        return folder

    @staticmethod
    def named(runs: Path, name: str) -> RunFolder:
        """Return the folder of a run in the folder of all runs.

        Raises
        ------
        RunError
            R004 if there is no such run.
        """
        run = RunFolder(runs / name)
        if not re.fullmatch(RUN_NAME, name):
            raise _unknown(name)
        run.description()
        return run

    @staticmethod
    def all(runs: Path) -> list[RunFolder]:
        """Return the folders of all runs, by name."""
        return [RunFolder(path.parent) for path in sorted(runs.glob("*/run.json"))]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def checkpoint(self) -> Path:
        """Where the run stands."""
        return self.path / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.path / "model.safetensors"

    def description(self) -> RunDescription:
        """Return what the run is.

        Raises
        ------
        RunError
            R004 if there is no such run.
        """
        try:
            return RunDescription.model_validate_json((self.path / "run.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise _unknown(self.name) from error

    def note(self, event: Event) -> None:
        """Write an event down."""
        with self.events_file.open("ab") as file:
            file.write(event.model_dump_json(exclude_defaults=True).encode() + b"\n")

    def note_end(self, error: PolyclinicError) -> None:
        """Write down why the run ended before its last round."""
        what: What = "stopped" if error.code == Code.RUN_STOPPED else "failed"
        text = f"{error.what} {error.remedy}"
        self.note(Event(at=time.time(), what=what, code=error.code.value, text=text))

    def note_lost(self) -> None:
        """Write down that a run that was submitted, and not started, will not be."""
        if self.status() == "submitted":
            what = f"The run {self.name} was cut off before it started."
            remedy = "Look into the server's log; then `polyclinic server run resume`."
            self.note_end(RunError(Code.RUN_CUT_OFF, what, remedy))

    def events(self) -> list[Event]:
        """Return what happened so far."""
        return [Event.model_validate_json(line) for line in self._whole_lines()]

    def follow(self, skip: int = 0) -> Iterator[Event]:
        """Yield what happens, the first `skip` events left out, until the run ends or is cut off.

        Whoever starts or resumes a run gets the number of events that there were before.
        """
        while True:
            over = self.status() in (*ENDS, CUT_OFF)
            new = self.events()[skip:]
            skip += len(new)
            yield from new
            if over and not new:
                return
            time.sleep(FOLLOW_S)

    def status(self) -> str:
        """Return where the run stands: its last event, or that it was cut off after it."""
        going = self._is_going()
        events = self.events()
        last = events[-1].what if events else "submitted"
        if last in ENDS:
            return last
        if going:
            return "going"
        return last if last == "submitted" else CUT_OFF

    def _is_going(self) -> bool:
        with (self.path / "lock").open("w") as file:
            return not _locked(file)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process that carries this run on.

        Raises
        ------
        RunError
            R006 if there is another.
        """
        with (self.path / "lock").open("w") as file:
            deadline = time.monotonic() + ENDING_S
            while not _locked(file):
                if time.monotonic() > deadline:
                    raise RunError(
                        Code.RUN_GOING,
                        f"The run {self.name} is going on already.",
                        "Follow it with `polyclinic server run show`, or stop it first.",
                    )
                time.sleep(FOLLOW_S)
            yield

    def ask_to_stop(self) -> None:
        """Ask the coordinator to stop."""
        self._stop.touch()

    def forget_stop(self) -> None:
        """Take that back."""
        self._stop.unlink(missing_ok=True)

    def check_stop(self) -> None:
        """Raise if the run was asked to stop.

        Raises
        ------
        RunError
            R007 if so.
        """
        if self._stop.exists():
            raise RunError(
                Code.RUN_STOPPED,
                f"The run {self.name} was stopped.",
                "Go on with `polyclinic server run resume`.",
            )

    @property
    def events_file(self) -> Path:
        """What happened, a line an event."""
        return self.path / "events.jsonl"

    @property
    def _stop(self) -> Path:
        return self.path / "stop"

    def _whole_lines(self) -> list[bytes]:
        """Return what is written, but for a last line that is still being written."""
        try:
            return self.events_file.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []


def _unknown(name: str) -> RunError:
    return RunError(
        Code.RUN_UNKNOWN,
        f"There is no run {name}, or its description is damaged.",
        "See `polyclinic server run list`.",
    )


def _locked(file: IO[str]) -> bool:
    """Lock a file until it is closed; say whether nobody else had."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
