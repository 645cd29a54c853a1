"""`polyclinic client ledger`: what was spent, what is left, and whether the ledger is whole."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption, WitnessOption
from polyclinic_common.cli.options import AsJson
from polyclinic_common.cli.study import Out
from polyclinic_common.files import write_new

if TYPE_CHECKING:
    from polyclinic_client.ledger.budget import Budget
    from polyclinic_client.ledger.replay import Replay

app = typer.Typer(
    no_args_is_help=True, help="The privacy ledger: verify it, plan with it, raise its limit."
)


@app.callback()
def root() -> None:
    """Show what was spent, what is left, and whether the ledger is whole."""


@app.command(epilog="Example:  polyclinic client ledger verify --site /srv/polyclinic")
def verify(site: SiteOption = SITE, witness: WitnessOption = None, as_json: AsJson = False) -> None:
    """Check every row, signature and stored vector, the witness and the journal."""
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_client.ledger.journalled import check_journalled
    from polyclinic_client.ledger.witness import read_invented
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.identity.site_key import fingerprint

    with SiteFolder.open(site, witness=witness, read_only=True) as folder:
        rows, watched = folder.ledger.verify(), folder.ledger.witness is not None
        check_journalled(folder.ledger, folder.journal.events())
        invented = read_invented(folder.ledger.path)
    if as_json:
        names = sorted(fingerprint(peer) for peer in invented)
        print_json({"valid": True, "rows": rows, "witness": watched, "invented_by": names})
        return
    typer.echo(f"The ledger is whole: {rows} rows, each signed by this hospital.")
    typer.echo("It holds every charge that the journal names.")
    if not watched:
        typer.echo(
            "There is no witness: an old copy of the whole folder would be noticed by peers only."
        )
    for peer, head in invented.items():
        typer.echo(
            f"Ignored: the hospital {fingerprint(peer)} says that it saw row {head.counter}, "
            "which this ledger never had. Ask it why."
        )


@app.command(epilog="Example:  polyclinic client ledger budget --site /srv/polyclinic")
def budget(site: SiteOption = SITE, witness: WitnessOption = None, as_json: AsJson = False) -> None:
    """Show what was spent, what is left, and what a further study could still have."""
    from polyclinic_client.folder.layout import LEDGER, read_identity
    from polyclinic_client.ledger.ledger import Ledger
    from polyclinic_common.cli.output import print_json

    with Ledger.open(site / LEDGER, read_identity(site), witness, read_only=True) as ledger:
        found = ledger.budget()
    if as_json:
        print_json(found.as_dict())
        return
    _print_budget(found)


@app.command(epilog="Example:  polyclinic client ledger replay --site /srv/polyclinic")
def replay(site: SiteOption, witness: WitnessOption = None, as_json: AsJson = False) -> None:
    """Recompute what was spent from the journal alone, and compare it with the ledger.

    docs/replay.py does the same without Polyclinic, on what `journal show --json` prints.
    """
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_client.ledger.replay import replay as recompute
    from polyclinic_common.cli.output import print_json

    with SiteFolder.open(site, witness=witness, read_only=True) as folder:
        found = recompute(folder.journal.events(), folder.ledger)
    if as_json:
        print_json(found.as_dict())
        return
    _print_replay(found)


@app.command(
    epilog="Example:  polyclinic client ledger topup --site /srv/polyclinic --epsilon-cap 4"
)
def topup(
    epsilon_cap: Annotated[
        float, typer.Option(help="The account's new limit, for everything ever released.", min=0)
    ],
    site: SiteOption = SITE,
    fallback_cap: Annotated[
        float | None,
        typer.Option(help="New limit if every release counted at fallback; as before if left out."),
    ] = None,
    witness: WitnessOption = None,
    as_json: AsJson = False,
) -> None:
    """Set the account's limit. What was spent stays spent: patients' risk grows with it."""
    from polyclinic_client.folder.layout import LEDGER, read_identity
    from polyclinic_client.ledger.ledger import Ledger
    from polyclinic_common.cli.output import print_json

    with Ledger.open(site / LEDGER, read_identity(site), witness) as ledger:
        with ledger.one_commit():
            before = ledger.budget()
            ledger.set_caps(epsilon_cap, fallback_cap)
        after = ledger.budget()
    if as_json:
        print_json({"before": before.epsilon_cap} | after.as_dict())
        return
    typer.echo(
        f"The account's limit was epsilon {before.epsilon_cap:g}; it is now {epsilon_cap:g}."
    )
    _print_budget(after)


@app.command(
    epilog="Example:  polyclinic client ledger recover --site /srv/polyclinic --rows saved.jsonl"
)
def recover(
    site: SiteOption = SITE,
    rows: Annotated[
        Path | None,
        typer.Option(help="This hospital's own signed rows, as `ledger export` writes them."),
    ] = None,
    from_consortium: Annotated[
        bool,
        typer.Option("--from-consortium", help="Fetch the rows that the consortium kept."),
    ] = False,
    charge_lost: Annotated[
        bool,
        typer.Option(
            "--charge-lost",
            help="Charge whatever rows that are gone can have held; running approvals end.",
        ),
    ] = False,
    new_witness: Annotated[
        bool, typer.Option("--new-witness", help="Begin a new witness; the old one is not asked.")
    ] = False,
    witness: WitnessOption = None,
    as_json: AsJson = False,
) -> None:
    """Bring a ledger that was put back from a copy up to date; this can only add to what is spent.

    Rows that others kept are read in again. Rows that are gone are charged only with
    --charge-lost: every approved release that is not on record, at fallback. What is missing,
    peers, the witness and the journal tell.
    """
    from polyclinic_client.folder.layout import JOURNAL, LEDGER, read_identity
    from polyclinic_client.ledger.recovery import read_rows
    from polyclinic_client.ledger.recovery import recover as bring_up_to_date
    from polyclinic_client.ledger.witness import read_claims
    from polyclinic_client.records.journal import Journal
    from polyclinic_common.cli.output import print_json

    found = [] if rows is None else read_rows(rows)
    if from_consortium:
        from polyclinic_client.consortium.client import ConsortiumClient

        with ConsortiumClient.open(site) as client:
            found += client.rows()
    identity = read_identity(site)
    with Journal.open(site / JOURNAL, identity, read_only=True) as journal:
        done = bring_up_to_date(
            site / LEDGER,
            identity,
            witness=witness,
            rows=found,
            claims=read_claims(site / LEDGER),
            journal=journal.events(),
            charge_lost=charge_lost,
            new_witness=new_witness,
        )
    if as_json:
        print_json({"reimported": done.reimported, "charged": done.charged})
        return
    typer.echo(f"Rows read in again: {done.reimported}. Releases charged as lost: {done.charged}.")


@app.command(
    epilog="Example:  polyclinic client ledger export --site /srv/polyclinic --out saved.jsonl"
)
def export(
    site: SiteOption = SITE,
    after: Annotated[int, typer.Option(help="Only rows after this number.", min=0)] = 0,
    out: Out = None,
) -> None:
    """Write the signed rows, one JSON object a line, to be kept elsewhere for `recover`.

    They tell what this hospital approved and released, nothing about patients; no vectors.
    """
    from polyclinic_client.folder.layout import LEDGER, read_identity
    from polyclinic_client.ledger.ledger import Ledger
    from polyclinic_client.ledger.recovery import write_rows

    with Ledger.open_unwitnessed(site / LEDGER, read_identity(site), read_only=True) as ledger:
        found = ledger.export_rows(after)
    if out is None:
        sys.stdout.write(write_rows(found))
        return
    write_new(out, write_rows(found))
    typer.echo(f"Wrote {len(found)} rows to {out}.")


def _print_budget(budget: Budget) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"[bold]Privacy account[/] of this hospital, delta {budget.delta:g}, add or remove one "
        f"patient (all rows of one patient together)"
    )
    if budget.declared_reset:
        console.print("[yellow]note[/] This ledger began anew after an earlier one.")
    sums = Table("epsilon", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    sums.add_column("value", justify="right")
    sums.add_column("what it says")
    for name, value, words in _sums(budget):
        sums.add_row(name, _number(value), words)
    console.print(sums)
    if not budget.lines:
        console.print("Nothing was approved yet.")
        return
    console.print(_approvals(budget))
    console.print("another: how many more such releases fit besides everything approved.")


def _print_replay(found: Replay) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_common.text import plain

    table = Table("epsilon", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("journal", justify="right")
    table.add_column("ledger", justify="right")
    table.add_row("spent", f"{found.spent:.6f}", f"{found.ledger_spent:.6f}")
    table.add_row("fallback", f"{found.fallback:.6f}", f"{found.ledger_fallback:.6f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{found.releases} charged releases left; delta {found.delta:g}.")
    for name in found.drawn_again:
        console.print(f"Two draws left of the {escape(plain(name))}: both count.")
    if (found.spent, found.fallback) != (found.ledger_spent, found.ledger_fallback):
        console.print("The ledger holds more: releases that never left, or rows that were lost.")


def _sums(budget: Budget) -> list[tuple[str, float | None, str]]:
    return [
        ("spent", budget.spent, f"{budget.releases} releases; unsettled ones at fallback"),
        ("  settled", budget.settled, "releases whose price is final"),
        ("  lost", budget.lost, "charged for rows that were lost"),
        ("promised", budget.promised, "with all that approved studies may still cost"),
        ("limit", budget.epsilon_cap, "set by this hospital"),
        ("next study", budget.next_epsilon, "the largest epsilon that still fits"),
        ("fallback", budget.fallback, "if all other hospitals colluded in every round"),
        ("  limit", budget.fallback_cap, "set by this hospital"),
        ("two hospitals", budget.two_hospitals, "for a patient in two hospitals of the runs"),
    ]


def _approvals(budget: Budget) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table("study", "run", "release", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("done", "left", "at fallback", "another"):
        table.add_column(name, justify="right")
    table.add_column("until")
    for line in budget.lines:
        table.add_row(
            line.study_hash[:12],
            "any" if line.run is None else escape(line.run),
            escape(line.kind),
            f"{line.done} of {line.releases}",
            str(line.left),
            f"{line.at_fallback} (may be {line.lost_rounds})",
            str(line.more_fit),
            line.expires if line.open else "ended",
        )
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return "no bound" if math.isinf(value) else f"{value:.3f}"
