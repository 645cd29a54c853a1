"""`polyclinic audit`: attack what a study would release, before somebody else does."""

from __future__ import annotations

import typer

from polyclinic_simulations.audit import inversion_command, membership_command, noise_command

app = typer.Typer(no_args_is_help=True, help="Attack what a study would release.")


@app.callback()
def root() -> None:
    """Attack what a study would release."""


noise_command.add_to(app)
membership_command.add_to(app)
inversion_command.add_to(app)
