"""`polyclinic study`: write, check and read study manifests."""

import typer

app = typer.Typer(no_args_is_help=True, help="Write, check and read study manifests.")


@app.callback()
def root() -> None:
    """Write, check and read study manifests."""
