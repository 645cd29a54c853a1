"""`polyclinic client up`: the node."""

from __future__ import annotations

import logging

import typer

from polyclinic_client.cli.options import SITE, SiteOption

log = logging.getLogger(__name__)
OPENER = "polyclinic_client.worker.site_book:open_sites"


def up(site: SiteOption = SITE) -> None:
    """Run this hospital's node until it is stopped: only approved studies are answered.

    It connects to the server by itself, again and again; no port is opened here.
    """
    from polyclinic_client.backup.row_keeper import RowKeeper
    from polyclinic_client.folder.membership import AUTHORITY, TLS, TLS_KEY, Membership
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_client.ledger.journalled import check_journalled
    from polyclinic_client.node.main import NodeSettings, run_node
    from polyclinic_client.node.rest import Rest
    from polyclinic_client.node.trust_keeper import TrustKeeper
    from polyclinic_client.proxy import way_to
    from polyclinic_common import logs
    from polyclinic_common.consortium.address import host_port

    membership = Membership.read(site)
    with SiteFolder.open(site, read_only=True) as folder:
        check_journalled(folder.ledger, folder.journal.events())
    way = way_to(membership.host, membership.fleet_port)
    settings = NodeSettings(
        folder=site,
        address=host_port(membership.host, membership.fleet_port),
        certificate=site / TLS,
        key=site / TLS_KEY,
        authority=site / AUTHORITY,
        opener=OPENER,
    )

    def ready() -> None:
        typer.echo(f"{membership.name}: node of {membership.consortium}. Ctrl-C stops it.")
        typer.echo(f"The server {membership.host} is called {way}.")
        keeper.start()
        TrustKeeper(site, rest).start()

    logs.start()
    rest = Rest()
    keeper = RowKeeper(site, rest)
    run_node(settings, ready, rest)
    keeper.look()
    log.info("stopped")
