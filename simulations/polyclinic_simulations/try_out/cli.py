"""`polyclinic try`: a whole consortium on this machine."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from polyclinic_simulations.try_out.consortium import Trial

OUT = Path("polyclinic-out") / "try"
app = typer.Typer()


@app.command(name="try", epilog="Example:  polyclinic try")
def try_out(
    out: Annotated[
        Path | None,
        typer.Option(help="A fresh folder for everything (default: one under polyclinic-out/try)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Try a consortium out: a server and four hospitals as real processes on this machine.

    Types the commands that an operator and hospitals type (real TLS, ledgers, secure sum), trains
    the study gbsg2, shows what the hospitals' journals and budgets say, and stops everything.
    """
    from rich.console import Console

    from polyclinic_common.cli.output import print_json
    from polyclinic_simulations.sweep.simulation import output_folder
    from polyclinic_simulations.try_out.commands import Commands
    from polyclinic_simulations.try_out.consortium import TrialConsortium

    place = out or OUT / f"{dt.datetime.now().astimezone():%Y-%m-%d-%H%M%S}"
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    with output_folder(place) as folder:
        logs = folder / "logs"
        logs.mkdir()
        commands = Commands(lambda line: console.print(line, style="dim", markup=False), logs)
        try:
            found = TrialConsortium(folder, commands).carry_out()
        finally:
            commands.stop()
    if as_json:
        print_json({"study": found.study.id, "run": found.run, "budgets": found.budgets})
        return
    _show(console, found, place)


def _show(console: Console, found: Trial, place: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console.print(
        f"\n{found.run['rounds']} rounds of {found.study.id}. What it cost every hospital:"
    )
    table = Table("hospital", "spent ε", "at fallback", "limit", box=SIMPLE_HEAD)
    for name, budget in found.budgets.items():
        numbers = (budget["spent"], budget["fallback"], budget["epsilon_cap"])
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    console.print(table)
    console.print(
        f"What {next(iter(found.budgets))} sees (client ledger budget, client journal show):"
    )
    for text in found.shown:
        console.print(text, markup=False)
    console.print(f"Everything is stopped. Model, ledgers, journals and logs: {place}")
