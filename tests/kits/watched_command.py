"""A command under `sys.addaudithook`: prints, as JSON, what it did that a site may not.

``python -m tests.kits.watched_command FOLDER WORDS…`` runs ``polyclinic WORDS…`` twice, the second
time watched, when everything is imported. With ``planted`` before FOLDER, the search for similar
patients opens a connection, which the watch has to see.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from polyclinic_common.bundle.similar import OwnPatients
from polyclinic_common.cli.main import main as polyclinic
from tests.kits.watched_run import connect, watched


def plant() -> None:
    honest = OwnPatients.like

    def like(own: OwnPatients, *arguments: Any) -> Any:
        connect()
        return honest(own, *arguments)

    OwnPatients.like = like  # type: ignore[method-assign, assignment]


def run(words: list[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        polyclinic(words)
    return printed.getvalue()


def main(folder: str, *words: str) -> dict[str, Any]:
    """Return what was printed, and what was seen."""
    run(list(words))
    seen: list[str] = []
    with watched(Path(folder).resolve(), seen):
        printed = run(list(words))
    return {"printed": printed, "seen": seen}


if __name__ == "__main__":
    if sys.argv[1] == "planted":
        sys.argv.pop(1)
        plant()
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
