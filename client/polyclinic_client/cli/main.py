"""`polyclinic client`: what a hospital does on its own machine."""

from __future__ import annotations

import typer

from polyclinic_client.cli import (
    accounts,
    data,
    journal,
    ledger,
    membership,
    model,
    monitor,
    peers,
    preflight,
    similar,
    study,
    up,
)
from polyclinic_common.cli.many_values import ManyValues

app = typer.Typer(
    no_args_is_help=True,
    help="Join a consortium, approve studies, see what left and what is left to spend.",
)
app.command(epilog="Example:  polyclinic client join invitation.txt")(membership.join)
app.command(epilog="Example:  polyclinic client status")(membership.status)
app.command(epilog="Example:  polyclinic client preflight invitation.txt")(preflight.preflight)
app.command(epilog="Example:  polyclinic client up")(up.up)
app.command(cls=ManyValues, epilog=similar.EXAMPLE)(similar.similar)
app.command(epilog="Example:  polyclinic client monitor FILE newer.csv --map map.toml")(
    monitor.monitor
)
app.add_typer(peers.app, name="peers")
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.add_typer(ledger.app, name="ledger")
app.add_typer(model.app, name="model")
app.add_typer(journal.app, name="journal")
app.add_typer(accounts.app, name="accounts")


@app.callback()
def root() -> None:
    """Join a consortium, approve studies, see what left and what is left to spend."""
