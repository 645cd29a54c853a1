"""A whole run under `sys.addaudithook`: prints, as JSON, what its sites did that a site may not.

``python -m tests.kits.watched_run FOLDER MODE [planted]``. Everything is imported, and one run
is made, before the hook is set; then the same run is made in another folder and watched. With
`planted`, one run more is made for every violation in `plants`, each with the gate changed to
commit it: the hook must see every one.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from polyclinic_client.gate.gate import Gate
from polyclinic_server.rounds.state import State
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.small import small_study, small_table

FORBIDDEN = (
    *("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"),
    *("os.spawn", "os.startfile", "pty.", "urllib.", "http.", "ftplib.", "smtplib.", "poplib."),
    *("imaplib.", "telnetlib.", "webbrowser.", "syslog.", "mmap.", "pickle.", "marshal.load"),
)
CHANGING = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod"}
CHANGING |= {"os.truncate", "os.chown", "os.putenv", "shutil.copyfile", "shutil.move"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def violation(event: str, arguments: tuple[Any, ...], folder: Path) -> bool:
    """Say whether something was done that a site may not do."""
    if event.startswith(FORBIDDEN):
        return True
    if event == "sqlite3.connect":
        path = unquote(str(arguments[0]).removeprefix("file://").partition("?")[0])
        return not _is_within(path, folder)
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int):
            return False  # opened before, and seen then
        writes = bool(flags & WRITING) if isinstance(flags, int) else False
        writes = writes or (isinstance(mode, str) and any(letter in mode for letter in "wax+"))
        return writes and not _is_within(path, folder)
    return event in CHANGING and not all(
        _is_within(path, folder) for path in arguments if isinstance(path, str | bytes | Path)
    )


def _is_within(path: object, folder: Path) -> bool:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return isinstance(path, str | Path) and Path(path).resolve().is_relative_to(folder)


@contextmanager
def watched(folder: Path, found: list[str]) -> Iterator[None]:
    watching = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0]:
            watching[0] = False
            if violation(event, arguments, folder):
                found.append(f"{event} {arguments[:2]}")
            watching[0] = True

    sys.addaudithook(hook)
    try:
        yield
    finally:
        watching[0] = False


def connect() -> None:
    with socket.socket() as made:
        made.connect_ex(("127.0.0.1", 9))


def bind() -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x", ("127.0.0.1", 9))


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def database(place: Path) -> None:
    import sqlite3

    sqlite3.connect(place / "copy.sqlite").close()


def plants(place: Path) -> dict[str, Callable[[], object]]:
    """Return what a bad site could do; `place` is outside every site's folder."""
    return {
        "connect": connect,
        "bind": bind,
        "send": send,
        "name": lambda: socket.getaddrinfo("localhost", 9),
        "fork": fork,
        "system": lambda: os.system("true"),  # noqa: S605
        "popen": lambda: subprocess.run(["true"], check=True),
        "spawn": lambda: os.spawnv(os.P_WAIT, "/bin/true", ["true"]),  # noqa: S606
        "write": lambda: (place / "copy").write_text("x"),
        "append": lambda: (place / "there").open("ab").close(),
        "low-level write": lambda: os.close(os.open(place / "copy", os.O_RDWR | os.O_CREAT)),
        "folder": (place / "made").mkdir,
        "rename": lambda: (place / "there").rename(place / "copy"),
        "database": lambda: database(place),
    }


@contextmanager
def planted(act: Callable[[], object]) -> Iterator[None]:
    """Let one site act once, where it would let something out."""
    honest, acted = Gate.let_out, list[bool]()

    def let_out(gate: Gate, *arguments: Any) -> Any:
        if not acted:
            acted.append(True)
            act()
        return honest(gate, *arguments)

    Gate.let_out = let_out  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Gate.let_out = honest  # type: ignore[method-assign]


def train(made: Federation, setting: Setting, folder: Path, gradients: str) -> None:
    start = State.start(start_weights(made))
    trainer = Trainer(gradients)
    train_federated(made, setting, run_id="run", start=start, trainer=trainer, folder=folder)


def main(place: Path, mode: str, violations: str = "") -> dict[str, list[str]]:
    """Return what was seen, by what was planted."""
    gradients, rounds = ("fast", 1) if violations else ("opacus", 3)
    setting = Setting(mode, 1.0, "descent")
    study = small_study(training={"rounds": rounds})
    made = build_federation(setting.apply(study), small_table(60), seed=0)
    train(made, setting, place / "before", gradients)
    seen: dict[str, list[str]] = {"": []}
    with watched((place / "sites").resolve(), seen[""]):
        train(made, setting, place / "sites", gradients)
    for name, act in plants(place).items() if violations else ():
        (place / "there").touch()
        folder = place / f"planted {name}"
        with watched(folder.resolve(), seen.setdefault(name, [])), planted(act):
            train(made, setting, folder, gradients)
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
