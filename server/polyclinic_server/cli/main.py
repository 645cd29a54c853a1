"""`polyclinic server`: what the operator of a consortium does."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from polyclinic_common import logs
from polyclinic_common.cli.options import AsJson
from polyclinic_server.cli import release, run, site, study
from polyclinic_server.cli.options import FOLDER, FolderOption

app = typer.Typer(no_args_is_help=True, help="Run a consortium: invite hospitals, publish studies.")
app.add_typer(site.app, name="site")
app.add_typer(study.app, name="study")
app.add_typer(run.app, name="run")
app.add_typer(release.app, name="release")


@app.callback()
def root() -> None:
    """Run a consortium: invite hospitals, publish studies."""


@app.command(
    epilog='Example:  polyclinic server init "Warfarin consortium" polyclinic.example.org',
)
def init(
    name: Annotated[str, typer.Argument(help="Name of the consortium.")],
    address: Annotated[str, typer.Argument(help="DNS name or IP address that hospitals call.")],
    folder: FolderOption = FOLDER,
    also: Annotated[
        list[str] | None, typer.Option(help="A further DNS name or IP address of the server.")
    ] = None,
    first_port: Annotated[
        int, typer.Option(help="First of three ports in a row: enrolment, consortium, runs.")
    ] = 7640,
    listen: Annotated[str, typer.Option(help="Local address to listen on.")] = "0.0.0.0",  # noqa: S104
    as_json: AsJson = False,
) -> None:
    """Make authority, server certificate, operator's key, database and settings.

    Refuses a folder that holds anything. Then: `polyclinic server up`.
    """
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.identity import certificates
    from polyclinic_server.folder import CONFIG, ServerFolder, settings_of

    settings = settings_of(name, address, listen, first_port)
    made = ServerFolder.create(folder, settings, also or [])
    shown, ports = certificates.fingerprint(made.authority_certificate), settings.ports
    if as_json:
        print_json({"folder": str(folder), "fingerprint": shown, "ports": ports.model_dump()})
        return
    typer.echo(f"Made the consortium {settings.name!r} at {settings.address} in {folder}.")
    typer.echo("Keep a copy of that folder, locked up.")
    typer.echo(f"Authority's fingerprint, to be read out to hospitals:  {shown}")
    typer.echo(f"Settings: {folder / CONFIG}. Next: polyclinic server up --folder {folder}")


@app.command(epilog="Example:  polyclinic server up")
def up(folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Listen for hospitals until stopped; says when it is ready, and where."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.folder import ServerFolder
    from polyclinic_server.up.serve import serve
    from polyclinic_server.up.supervise import Addresses

    opened = ServerFolder.open(folder)
    settings = opened.settings

    def ready(_: Addresses) -> None:
        if as_json:
            print_json({"ready": True, "ports": settings.ports.model_dump()})
        else:
            used = settings.ports.model_dump().items()
            ports = ", ".join(f"{port} ({use})" for use, port in used)
            typer.echo(f"Ready: {settings.name} at {settings.address}, ports {ports}.")
        sys.stdout.flush()

    logs.start()
    serve(opened, ready)
