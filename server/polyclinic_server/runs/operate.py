"""What an operator does with runs: start, stop, go on, list. The commands call these."""

from __future__ import annotations

import time
from pathlib import Path

from polyclinic_common.errors import Code, RunError, ServerError
from polyclinic_server.runs.folder import (
    ADDRESS,
    CUT_OFF,
    ENDS,
    RUNS,
    Event,
    RunDescription,
    RunFolder,
)


def start_run(folder: Path, description: RunDescription) -> RunFolder:
    """Start a run at the server whose state lies in `folder`.

    Raises
    ------
    RunError
        R005 if there is a run of this name.
    ServerError
        V001 if the server is not up.
    """
    address = _loopback(folder)
    run = RunFolder.create(folder / RUNS, description)
    _submit(address, run)
    return run


def resume_run(folder: Path, name: str) -> RunFolder:
    """Go on with a run that was stopped, failed or was cut off.

    Raises
    ------
    RunError
        R004 if there is no such run, R006 if it is going on, R008 if it is finished.
    ServerError
        V001 if the server is not up.
    """
    run, address = find_run(folder, name), _loopback(folder)
    if run.status() == "finished":
        raise _over(run, "finished")
    with run.alone():
        run.forget_stop()
    _submit(address, run)
    return run


def stop_run(folder: Path, name: str) -> None:
    """Ask a run to stop after its present round.

    Raises
    ------
    RunError
        R004 if there is no such run, R008 if it is over.
    """
    run = find_run(folder, name)
    status = run.status()
    if status in (*ENDS, CUT_OFF):
        raise _over(run, status)
    run.ask_to_stop()


def find_run(folder: Path, name: str) -> RunFolder:
    """Return a run's folder.

    Raises
    ------
    RunError
        R004 if there is no such run.
    """
    return RunFolder.named(folder / RUNS, name)


def list_runs(folder: Path) -> list[RunFolder]:
    """Return all runs of a server."""
    return RunFolder.all(folder / RUNS)


def _submit(address: str, run: RunFolder) -> None:
    from polyclinic_server.superlink.flower_link import Control  # noqa: PLC0415  (seconds)

    run.note(Event(at=time.time(), what="submitted"))
    try:
        Control(address).start(run.name)
    except ServerError as error:
        run.note_end(error)
        raise


def _over(run: RunFolder, how: str) -> RunError:
    return RunError(
        Code.RUN_OVER,
        f"The run {run.name} is over: {how}.",
        "See `polyclinic server run show`.",
    )


def _loopback(folder: Path) -> str:
    try:
        return (folder / ADDRESS).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ServerError(
            Code.SERVER_UNREACHABLE,
            "The server has not been started yet.",
            "Start it with `polyclinic server up`.",
        ) from None
