"""Options that the commands of a hospital share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyclinic_common.cli.options import SITE, SiteOption

__all__ = ["SITE", "SiteOption", "WitnessOption"]
WitnessOption = Annotated[
    Path | None,
    typer.Option("--witness", help="Where the ledger's witness lies now, if it was moved."),
]
