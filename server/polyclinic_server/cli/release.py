"""`polyclinic server release`: make a run's bundle, see who accepted it, call it back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from polyclinic_common.cli.options import AsJson
from polyclinic_server.cli.options import FOLDER, FolderOption
from polyclinic_server.cli.run import meant_run

MAKE = "make"


class _MakesByDefault(TyperGroup):
    """A group whose unknown first word is the run of which a bundle is made."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; those that begin with no command are of `make`."""
        known = not args or args[0] in {*self.commands, "--help"}
        return super().parse_args(ctx, args if known else [MAKE, *args])


app = typer.Typer(
    cls=_MakesByDefault,
    no_args_is_help=True,
    subcommand_metavar="RUN [--card card.toml] | list | withdraw …",
    help="Release a run's model as one file, see who accepted it, call it back.",
)


@app.callback()
def root() -> None:
    """Release a run's model as one file, see who accepted it, call it back.

    `polyclinic server release RUN` makes it.
    """


@app.command(MAKE, epilog="Example:  polyclinic server release 1f0c --card card.toml")
def make(
    run: Annotated[str, typer.Argument(help="The run, as `run list` shows it.", metavar="RUN")],
    card: Annotated[
        Path | None, typer.Option(help="What only people know of the model (TOML).")
    ] = None,
    noise_audit: Annotated[
        Path | None, typer.Option(help="What `polyclinic audit noise STUDY --json` printed.")
    ] = None,
    folder: FolderOption = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Make the bundle of a finished run, signed by the operator, and offer it to the hospitals."""
    from polyclinic_common.bundle.noise_audit import read_noise_audit
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.files import write_atomically
    from polyclinic_server.consortium.bundles import offer_bundle
    from polyclinic_server.folder import ServerFolder
    from polyclinic_server.runs.release import make_bundle

    opened, found = ServerFolder.open(folder), meant_run(folder, run)
    audit = None
    if noise_audit is not None:
        audit = read_noise_audit(noise_audit, found.description().parsed_study)
    bundle = make_bundle(opened, found, _people(card), audit)
    others, file = offer_bundle(opened, bundle), found.path / bundle.file_name
    write_atomically(file, bundle.to_bytes())
    if as_json:
        print_json({"digest": bundle.digest, "run": found.name, "file": str(file)})
        return
    typer.echo(f"Released {bundle.digest[:12]}, signed by the operator: {file}")
    typer.echo("Hospitals see it with `polyclinic client model list`.")
    for each in others:
        typer.echo(
            f"{each[:12]} of the same run stays on offer; if this one takes its place: "
            f'polyclinic server release withdraw {each[:12]} --reason "…"'
        )


@app.command("list", epilog="Example:  polyclinic server release list")
def list_bundles(folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Show every bundle: who signed it, who rejected it and why, what was called back."""
    from dataclasses import asdict

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_common.cli.output import print_json
    from polyclinic_server.consortium.bundles import released_bundles
    from polyclinic_server.folder import ServerFolder

    found = released_bundles(ServerFolder.open(folder))
    if as_json:
        print_json([asdict(each) | {"released": each.released.isoformat()} for each in found])
        return
    table = Table("bundle", "run", "released", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("signed by", "rejected by", "called back"):
        table.add_column(heading)
    for each in found:
        rejected = ", ".join(f"{site} ({code})" for site, code in each.rejected.items())
        table.add_row(
            each.digest[:12],
            each.run[:12],
            f"{each.released:%Y-%m-%d}",
            escape(", ".join(["operator", *each.accepted])),
            escape(rejected),
            escape(each.withdrawn),
        )
    Console(highlight=False).print(table)


@app.command(
    epilog='Example:  polyclinic server release withdraw 3f9c01d27a41 --reason "wrong unit"'
)
def withdraw(
    bundle: Annotated[
        str,
        typer.Argument(help="The bundle: start of its digest, or its run.", metavar="BUNDLE"),
    ],
    reason: Annotated[str, typer.Option(help="Why, in one line: every hospital reads it.")],
    folder: FolderOption = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Call a bundle back for good: hospitals that learn of it predict with it no more.

    Nodes ask every ten minutes. A withdrawal is signed, numbered, and cannot be taken back.
    """
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.consortium.bundles import withdraw_bundle
    from polyclinic_server.folder import ServerFolder

    stands = withdraw_bundle(ServerFolder.open(folder), bundle, reason)
    if as_json:
        said = {"number": stands.number, "reason": stands.reason, "day": stands.day}
        print_json({"digest": stands.digest.hex()} | said)
        return
    typer.echo(f"{stands.digest.hex()[:12]} was called back: {stands.sentence}")


def _people(card: Path | None) -> Mapping[str, str]:
    """Return what people know of the model; nothing where they left the card out."""
    from polyclinic_common.bundle.card_file import load_card_toml

    return {} if card is None else load_card_toml(card)
