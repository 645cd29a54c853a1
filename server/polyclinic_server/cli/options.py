"""Options that the commands of an operator share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FOLDER = Path.home() / ".polyclinic" / "server"
FolderOption = Annotated[
    Path, typer.Option("--folder", help="The server's folder (config.toml, keys, store).")
]
