"""`polyclinic audit inversion`: guess genotypes from released warfarin models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer

from polyclinic_common.cli.many_values import ManyValues

STUDIES = ("iwpc", "warfarin")
EPSILONS = (0.01, 0.05, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 50.0)
EXAMPLES = """
Examples:

  polyclinic audit inversion warfarin                synthetic patients

  polyclinic audit inversion iwpc --data ~/polyclinic-data --seeds 20

  polyclinic audit inversion warfarin --epsilon 0.1 1 10 --seeds 3 --json
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the group of audits."""
    app.command(cls=ManyValues, epilog=EXAMPLES)(inversion)


def inversion(
    study: Annotated[
        str, typer.Argument(click_type=click.Choice(STUDIES), help="A built-in warfarin study.")
    ],
    data: Annotated[Path | None, typer.Option(help="Data folder of the study iwpc.")] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="Budgets (default: 0.01 to 50).")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds; each is a split of its own.")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(help="Where results go (default: polyclinic-out/inversion-STUDY)."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print inversion.json instead of tables.")
    ] = False,
) -> None:
    """Guess VKORC1 and CYP2C9 from dose, clinic data and the released model.

    Trains with secure sums of every budget and without privacy, attacks training and test patients
    apart, and sets dose errors beside it. Writes inversion.json and inversion.svg.
    """
    import sys

    from polyclinic_common.files import write_atomically
    from polyclinic_simulations.audit.inversion import invert
    from polyclinic_simulations.audit.inversion_plot import draw
    from polyclinic_simulations.audit.inversion_tables import print_inversion
    from polyclinic_simulations.report.console import RichWatcher
    from polyclinic_simulations.studies import resolve
    from polyclinic_simulations.sweep.simulation import output_folder

    manifest, frame = resolve(study, data)
    with output_folder(out or Path("polyclinic-out", f"inversion-{study}")) as folder:
        with RichWatcher(quiet=as_json) as watcher:
            result = invert(manifest, frame, epsilon or EPSILONS, seeds, watcher)
        text = result.model_dump_json(indent=1)
        write_atomically(folder / "inversion.json", text.encode())
        write_atomically(folder / "inversion.svg", draw(result))
        if as_json:
            sys.stdout.write(text + "\n")
        else:
            print_inversion(result, folder)
