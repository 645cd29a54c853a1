"""Options that commands of several packages share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SITE = Path.home() / ".polyclinic" / "site"
SiteOption = Annotated[
    Path,
    typer.Option("--site", help="The site's folder (keys, ledger, journal, studies)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
BundleFile = Annotated[
    Path, typer.Argument(help="The released model (.polyclinic).", metavar="FILE")
]
HospitalOption = Annotated[
    str | None,
    typer.Option(
        "--hospital",
        help="This hospital's name in the roster (default: that of the site's folder).",
    ),
]
OperatorOption = Annotated[
    str | None,
    typer.Option(
        help="Fingerprint of the operator who signed, as it was told on another way; needed "
        "outside a hospital's folder.",
    ),
]
