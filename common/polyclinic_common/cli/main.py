"""The command `polyclinic`: sub-commands that the installed components register, loaded lazily.

A component registers a Typer app under the entry-point group ``polyclinic.commands``. Only the
app that is called is imported; one whose component is not installed is left out.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from polyclinic_common.cli.output import print_error
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.version import VERSION

GROUP = "polyclinic.commands"
SUMMARIES = {
    "study": "Write, check and read study manifests.",
    "client": "Join a consortium, approve studies, see what left and what is left to spend.",
    "data": "Check a hospital's table against a study.",
    "model": "Check a released model, read it, turn it into other forms.",
    "predict": "Ask a released model about patients.",
    "server": "Run a consortium: invite hospitals, publish studies.",
    "simulate": "Run a whole federation on this machine.",
    "try": "Try a consortium out: a server and four hospitals on this machine.",
    "audit": "Attack what is released: how much noise is there, what could be guessed?",
}


def installed_commands() -> dict[str, EntryPoint]:
    """Return the registered commands whose component is installed."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    return {
        name: entry
        for name, entry in sorted(found.items())
        if find_spec(entry.module.partition(".")[0]) is not None
    }


class LazyGroup(TyperGroup):
    """A group that imports a sub-command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the registered commands."""
        return list(installed_commands())

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Return a stand-in with the command's summary: enough for the overview, no import."""
        if cmd_name not in installed_commands():
            return None
        return click.Command(cmd_name, help=SUMMARIES.get(cmd_name, ""))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is called."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        if name is None or stand_in is None:
            return name, stand_in, rest
        command = typer.main.get_command(installed_commands()[name].load())
        command.name = name
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Treatment-response models trained across hospitals, with patient data staying put.",
)


def _tell_version(asked: bool) -> None:
    """Print the version and end, if that is what was asked."""
    if asked:
        typer.echo(f"polyclinic {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    """Carry the options that all commands share."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a coded error ends it with that error's exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=arguments, standalone_mode=True)
    except PolyclinicError as error:
        print_error(error, as_json="--json" in arguments)
        sys.exit(error.exit_status)
