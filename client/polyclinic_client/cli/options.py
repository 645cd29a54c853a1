"""Options that the commands of a hospital share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SiteOption = Annotated[
    Path,
    typer.Option("--site", help="The site's folder (identity.key, ledger.sqlite, journal.sqlite)."),
]
WitnessOption = Annotated[
    Path | None,
    typer.Option("--witness", help="Where the ledger's witness lies now, if it was moved."),
]
