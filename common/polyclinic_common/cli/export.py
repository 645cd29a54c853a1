"""`polyclinic model export`: a released model in a form that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyclinic_common.cli.options import SITE, BundleFile, OperatorOption, SiteOption


def export(
    file: BundleFile,
    onnx: Annotated[
        Path, typer.Option("--onnx", help="Write an ONNX graph to this new file.", metavar="OUT")
    ],
    site: SiteOption = SITE,
    operator: OperatorOption = None,
) -> None:
    """Write the model for other programs: the study's columns in, the prediction out.

    The file is not signed, and nobody can call it back: what it was made from stands in it.
    """
    from polyclinic_common.bundle.onnx_graph import onnx_of_bundle
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.files import write_new

    opened = open_bundle(file, site, operator)
    write_new(onnx, onnx_of_bundle(opened.bundle))
    typer.echo(f"Wrote {onnx}. It is not signed, and no withdrawal reaches it.")
    for note in opened.notes:
        typer.secho(note, bold=note.startswith("SIMULATED"))
