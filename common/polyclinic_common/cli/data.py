"""`polyclinic data`: check tables."""

import typer

app = typer.Typer(no_args_is_help=True, help="Write, check and read tables.")


@app.callback()
def root() -> None:
    """Write, check and read tables."""
