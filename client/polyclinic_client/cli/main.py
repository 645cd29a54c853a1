"""`polyclinic client`: what a hospital does on its own machine."""

from __future__ import annotations

import typer

from polyclinic_client.cli import journal, ledger

app = typer.Typer(no_args_is_help=True, help="Keep a hospital's privacy ledger and journal.")
app.add_typer(ledger.app, name="ledger")
app.add_typer(journal.app, name="journal")


@app.callback()
def root() -> None:
    """Keep a hospital's privacy ledger and journal; nothing here is sent anywhere."""
