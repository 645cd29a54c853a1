"""`polyclinic server study`: publish studies, see who approved them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyclinic_common.cli.options import AsJson
from polyclinic_server.cli.options import FOLDER, FolderOption

app = typer.Typer(no_args_is_help=True, help="Publish studies, see who approved them.")


@app.callback()
def root() -> None:
    """Publish studies, see who approved them."""


@app.command(epilog="Example:  polyclinic server study publish warfarin.toml")
def publish(
    study: Annotated[Path, typer.Argument(help="The study manifest (TOML).", metavar="STUDY")],
    folder: FolderOption = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Sign a study and offer it to the hospitals that it names."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.study import load_study
    from polyclinic_server.consortium.publish import publish_study
    from polyclinic_server.folder import ServerFolder

    contract = load_study(study)
    absent = publish_study(ServerFolder.open(folder), contract)
    if as_json:
        print_json({"id": contract.id, "hash": contract.hash(), "not_invited": absent})
        return
    typer.echo(f"Published {contract.id} {contract.version}, hash {contract.hash()[:12]}.")
    if absent:
        typer.echo(f"Not invited yet: {', '.join(absent)}.")
    typer.echo("Hospitals see it with `polyclinic client study list`.")


@app.command(epilog="Example:  polyclinic server study close 3f9c01d27a41")
def close(
    study: Annotated[
        str, typer.Argument(help="The study: its id, or the start of its hash.", metavar="STUDY")
    ],
    folder: FolderOption = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Take a dead version off the offer for good: no data, approvals or runs of it any more.

    What hospitals signed of it stays in the store. The same file can be published again once its
    version has changed.
    """
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.consortium.publish import close_study
    from polyclinic_server.folder import ServerFolder

    closed = close_study(ServerFolder.open(folder), study)
    if as_json:
        print_json({"id": closed.id, "hash": closed.hash, "closed": True})
        return
    typer.echo(f"Closed {closed.id} {closed.version}, hash {closed.hash[:12]}.")
    if closed.approved:
        typer.echo(
            f"Its approvals end when these withdraw: {', '.join(closed.approved)}. Tell them: "
            "until then their ledgers keep what it may still cost."
        )


@app.command("list", epilog="Example:  polyclinic server study list")
def list_studies(folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Show every study: who has declared a size, who has approved, who is missing."""
    from dataclasses import asdict

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_common.cli.output import print_json
    from polyclinic_server.consortium.publish import published_studies
    from polyclinic_server.folder import ServerFolder

    found = published_studies(ServerFolder.open(folder))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    table = Table("study", "version", "hash", "expires", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("declared", "approved", "waiting for"):
        table.add_column(heading)
    for each in found:
        table.add_row(
            each.id,
            each.version,
            each.hash[:12],
            each.expires,
            f"{len(each.declared)} of {len(each.sites)}",
            f"{len(each.approved)} of {len(each.sites)} (needs {each.m})",
            "closed"
            if each.closed
            else escape(", ".join(name for name in each.sites if name not in each.approved)),
        )
    Console(highlight=False).print(table)
