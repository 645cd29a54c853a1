"""Options that the commands of a hospital share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SITE = Path.home() / ".polyclinic" / "site"
SiteOption = Annotated[
    Path,
    typer.Option("--site", help="The site's folder (keys, ledger, journal, studies)."),
]
WitnessOption = Annotated[
    Path | None,
    typer.Option("--witness", help="Where the ledger's witness lies now, if it was moved."),
]
