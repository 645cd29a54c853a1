"""`polyclinic server site`: invite hospitals, see how they stand, shut one out."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.cli.options import AsJson
from polyclinic_common.cli.study import Out
from polyclinic_common.files import write_new
from polyclinic_server.cli.options import FOLDER, FolderOption

if TYPE_CHECKING:
    from polyclinic_server.store.tables import Site

app = typer.Typer(no_args_is_help=True, help="Invite hospitals, see how they stand, shut one out.")
SiteName = Annotated[str, typer.Argument(help="The hospital's name, as studies name it.")]


@app.callback()
def root() -> None:
    """Invite hospitals, see how they stand, shut one out."""


@app.command(epilog='Example:  polyclinic server site invite "St. Mary" --out st-mary.txt')
def invite(
    name: SiteName,
    hours: Annotated[int, typer.Option(help="Hours until it expires.", min=1, max=720)] = 72,
    out: Out = None,
    folder: FolderOption = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Print an invitation: one line, to be sent to one hospital, that lets it join once."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.consortium.invite import invite_site
    from polyclinic_server.folder import ServerFolder

    invitation = invite_site(ServerFolder.open(folder), name, hours)
    text, until = invitation.text(), f"{invitation.until:%Y-%m-%d %H:%M} UTC"
    if out is not None:
        write_new(out, text + "\n")
    if as_json:
        print_json(
            {
                "site": invitation.site,
                "invitation": text,
                "fingerprint": invitation.fingerprint,
                "expires": invitation.until.isoformat(),
            }
        )
        return
    typer.echo(f"Invitation for {invitation.site}, good once, until {until}:\n")
    typer.echo(text if out is None else f"  in {out}")
    typer.echo("\nSend it to the hospital, which runs:  polyclinic client join INVITATION")
    typer.echo(f"Read this out when it asks for it by telephone:  {invitation.fingerprint}")


@app.command("list", epilog="Example:  polyclinic server site list")
def list_sites(folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Show every hospital: state, last seen, days its certificate lasts, version, approvals."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_common.cli.output import print_json
    from polyclinic_server.folder import ServerFolder

    store = ServerFolder.open(folder).open_store()
    sites, approvals = store.sites(), store.approvals_by_site()
    store.close()
    if as_json:
        print_json([_plain(site) | {"approvals": approvals.get(site.name, 0)} for site in sites])
        return
    table = Table("hospital", "state", "last seen (UTC)", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("certificate", "approvals"):
        table.add_column(heading, justify="right")
    table.add_column("version")
    for site in sites:
        plain = _plain(site)
        days = plain["certificate_days"]
        table.add_row(
            escape(site.name),
            site.state,
            str(plain["last_seen"] or "never")[:16].replace("T", " "),
            "" if days is None else f"{days} days",
            str(approvals.get(site.name, 0)),
            escape(site.version or ""),
        )
    Console(highlight=False).print(table)


@app.command(epilog='Example:  polyclinic server site revoke "St. Mary"')
def revoke(name: SiteName, folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Shut a hospital out at once: nothing it asks is answered any more."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.folder import ServerFolder

    store = ServerFolder.open(folder).open_store()
    store.revoke(name)
    store.close()
    if as_json:
        print_json({"site": name, "state": "revoked"})
        return
    typer.echo(f"{name} is shut out. A new invitation lets it join again.")


def _plain(site: Site) -> dict[str, object]:
    now = dt.datetime.now(dt.UTC)
    return {
        "name": site.name,
        "state": site.state,
        "last_seen": None if site.last_seen is None else _time(site.last_seen).isoformat(),
        "certificate_days": None if site.expires is None else (_time(site.expires) - now).days,
        "version": site.version,
    }


def _time(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
