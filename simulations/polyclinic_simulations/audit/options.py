"""Options that the audits share."""

from __future__ import annotations

from typing import Annotated

import typer

StudyName = Annotated[
    str, typer.Argument(help="A built-in study (gbsg2, heart, iwpc …) or a manifest.")
]
EpsilonOption = Annotated[
    float | None, typer.Option(help="A budget instead of the study's.", min=0)
]
