"""`polyclinic client journal`: who asked what, and what left this hospital."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.options import AsJson

if TYPE_CHECKING:
    from polyclinic_client.records.journal import Climbed, Noted, TableEvent

app = typer.Typer(no_args_is_help=True, help="The journal: who asked what, and what left.")


@app.callback()
def root() -> None:
    """Show who asked what, what left, and what was refused."""


@app.command(epilog="Example:  polyclinic client journal show --site /srv/polyclinic --last 20")
def show(
    site: SiteOption = SITE,
    last: Annotated[
        int | None, typer.Option(help="Only so many of the latest events.", min=1)
    ] = None,
    run: Annotated[str | None, typer.Option(help="Only events of this run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what was asked, what left (size, hash, cost) and what was refused, in order."""
    from polyclinic_client.folder.layout import JOURNAL, read_identity
    from polyclinic_client.records.journal import Journal
    from polyclinic_common.cli.output import print_json

    with Journal.open(site / JOURNAL, read_identity(site), read_only=True) as journal:
        found = [noted for noted in journal.events() if run is None or run == noted_run(noted)]
    found = found if last is None else found[-last:]
    if as_json:
        print_json([_plain(noted) for noted in found])
        return
    _print_events(found)


@app.command(epilog="Example:  polyclinic client journal verify --site /srv/polyclinic")
def verify(site: SiteOption = SITE, as_json: AsJson = False) -> None:
    """Check every row and signature of the journal."""
    from polyclinic_client.folder.layout import JOURNAL, read_identity
    from polyclinic_client.records.journal import Journal
    from polyclinic_common.cli.output import print_json

    with Journal.open(site / JOURNAL, read_identity(site), read_only=True) as journal:
        rows = journal.verify()
    if as_json:
        print_json({"valid": True, "rows": rows})
        return
    typer.echo(f"The journal is whole: {rows} rows, each signed by this hospital.")


def noted_run(noted: Noted) -> str | None:
    """Return the run of an event, None if it belongs to none."""
    return getattr(noted.event, "run", None)


def _plain(noted: Noted) -> dict[str, object]:
    fields = noted.event.model_dump(mode="json")
    return {"sequence": noted.sequence, "time": noted.when.isoformat()} | fields


def _print_events(found: list[Noted]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_common.errors import Code
    from polyclinic_common.text import plain

    table = Table("time (UTC)", "event", "what", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("run")
    table.add_column("round", justify="right")
    table.add_column("try", justify="right")
    table.add_column("details")
    for noted in found:
        event = noted.event
        table.add_row(
            noted.when.strftime("%Y-%m-%d %H:%M:%S"),
            event.entry,
            escape(plain(_what(noted))),
            escape(plain(noted_run(noted) or "")),
            str(getattr(event, "round_number", "")),
            str(getattr(event, "attempt", "")),
            escape(plain(_details(noted))),
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if any(getattr(noted.event, "code", "") == Code.LEDGER_BEHIND for noted in found):
        console.print(
            f"{Code.LEDGER_BEHIND}: other hospitals, its witness or this journal have seen more of "
            "the ledger than it holds, so it takes no part. Stop the node, then:\n"
            "polyclinic client ledger recover --from-consortium"
        )


def _what(noted: Noted) -> str:
    from polyclinic_client.records.journal import (
        Asked,
        Bundle,
        Climbed,
        Decided,
        Failed,
        Left,
        PeerReset,
        Refused,
        SettledEvent,
        TableEvent,
    )
    from polyclinic_common.identity.site_key import fingerprint

    found = ""
    match noted.event:
        case PeerReset(identity=peer):
            found = f"{fingerprint(peer)} declares that its ledger was begun anew"
        case Bundle():
            found = "app bundle, not fetched"
        case Climbed(step=step):
            found = f"step {step} of the ladder"
        case TableEvent(what=what):
            found = f"table {what}"
        case Decided(decision=decision):
            found = f"model {decision}"
        case Asked(what=what) | Refused(what=what) | SettledEvent(sum=what):
            found = what
        case Left(kind=kind):
            found = kind
        case Failed(code=code):
            found = code
    return found


def _details(noted: Noted) -> str:
    from polyclinic_client.records.journal import (
        Asked,
        Bundle,
        Climbed,
        Decided,
        Left,
        Refused,
        SettledEvent,
        TableEvent,
    )
    from polyclinic_common.releases.kinds import called

    found = ""
    match noted.event:
        case Climbed() as climbed:
            found = _climbed(climbed)
        case TableEvent() as table:
            found = _table(table)
        case Bundle(sha256=digest, flower_run=number):
            found = f"sha256 {digest.hex()[:12]}, Flower's run {number}"
        case SettledEvent():
            found = "at headline: enough closing statements came"
        case Asked(who=who, study_hash=study):
            found = f"by {who}, study {study.hex()[:12]}"
        case Left() as left:
            cost = f"free: {left.free_because}"
            if left.cost is not None:
                cost = f"{called(left.sum)}, charged as {left.cost.kind}"
            row = f", ledger row {left.ledger_row}" if left.ledger_row else ""
            found = f"{left.size} bytes, sha256 {left.sha256.hex()[:12]}, {cost}{row}"
        case Refused(reason=reason):
            found = reason
        case Decided() as decided:
            found = f"bundle {decided.digest.hex()[:12]}, study {decided.study_hash.hex()[:12]}"
            found += f", {decided.code}" if decided.code else ""
    return found


def _table(table: TableEvent) -> str:
    """Say what a mapping settled, in plain words."""
    from polyclinic_common.data.settled import SettledRule

    rules = [
        str(SettledRule(each.column, each.rule, each.count, each.how)) for each in table.settled
    ]
    return f"study {table.study_hash.hex()[:12]}; settled: {' '.join(rules) or 'nothing'}"


def _climbed(climbed: Climbed) -> str:
    from polyclinic_client.gate.due import OVER

    over = climbed.step >= OVER
    return (
        f"the server may see that computing took longer than {climbed.outlasted / 1000:g} s (a "
        f"comparison with the cohort's size); study {climbed.study_hash.hex()[:12]} "
        + ("is answered no more" if over else "takes longer to answer from here on")
    )
