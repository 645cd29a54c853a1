"""`polyclinic client peers`: the other hospitals, and which of them this one knows for sure."""

from __future__ import annotations

from typing import Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="The other hospitals: list and verify them.")


@app.callback()
def root() -> None:
    """List the other hospitals, and verify them by telephone."""


@app.command("list", epilog="Example:  polyclinic client peers list")
def list_peers(site: SiteOption = SITE, as_json: AsJson = False) -> None:
    """Show every hospital with its fingerprint, and whether this hospital verified it."""
    from dataclasses import asdict

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.peers import list_peers as known_peers
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.text import plain

    with ConsortiumClient.open(site) as client:
        found = known_peers(site, client)
    if as_json:
        print_json([asdict(peer) for peer in found])
        return
    table = Table("hospital", "state", "fingerprint", "known", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("ledger")
    for peer in found:
        name, state = escape(plain(peer.name)), escape(plain(peer.state))
        ledger = "declared that it was begun anew" if peer.declared_reset else ""
        table.add_row(name, state, peer.fingerprint, peer.verified, ledger)
    console = Console(highlight=False)
    console.print(table)
    console.print("Telephone the others and let them read out theirs, then: peers verify")


@app.command(
    epilog='Example:  polyclinic client peers verify "St. Mary" "1f3a 22bc 90d1 0c4e …"',
)
def verify(
    name: Annotated[str, typer.Argument(help="The other hospital.")],
    fingerprint: Annotated[
        str, typer.Argument(help="Its fingerprint, as its own people read it out by telephone.")
    ],
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Pin another hospital's key. Only hospitals verified so count towards a round's fewest."""
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.peers import verify_peer
    from polyclinic_common.cli.output import print_json

    with ConsortiumClient.open(site) as client:
        verify_peer(site, client, name, fingerprint)
    if as_json:
        print_json({"name": name, "verified": True})
        return
    typer.echo(f"{name} is verified.")
