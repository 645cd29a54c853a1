"""`polyclinic client data`: freeze a table for a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.data import MapFile, Proposals
from polyclinic_common.cli.options import AsJson
from polyclinic_common.cli.study import Out

if TYPE_CHECKING:
    from polyclinic_common.consortium.statements import Declaration
    from polyclinic_common.data.report import CheckReport

app = typer.Typer(no_args_is_help=True, help="Add this hospital's data to a study.")


@app.callback()
def root() -> None:
    """Add this hospital's data to a study; they are copied to the site's folder and stay there."""


StudyWord = Annotated[str, typer.Argument(help="The study: its id, or the start of its hash.")]
Source = Annotated[Path, typer.Argument(help="The hospital's table (CSV, Excel or Parquet).")]


@app.command(
    "map", epilog="Example:  polyclinic client data map warfarin extract.csv --out map.toml"
)
def write_map(study: StudyWord, source: Source, out: Out = None, site: SiteOption = SITE) -> None:
    """Write a first mapping from the table's columns to the study's, to be edited."""
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.participation import find_study
    from polyclinic_common.cli.data import first_map

    with ConsortiumClient.open(site) as client:
        contract = find_study(client, study).read(client.membership.operator_key)
    following = f"polyclinic client data check {study} {source} --map {out}"
    first_map(contract, source, out, following)


@app.command(
    epilog="Example:  polyclinic client data check warfarin extract.csv --map map.toml "
    "--propose next.toml"
)
def check(
    study: StudyWord,
    source: Source,
    mapping: MapFile = None,
    propose: Proposals = None,
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Report on every column of a table and say whether it can be added: exit status 0 if it can.

    The table is read here and stays here: nothing is kept or sent.
    """
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.participation import find_study
    from polyclinic_common.cli.data import check_against

    with ConsortiumClient.open(site) as client:
        contract = find_study(client, study).read(client.membership.operator_key)
    check_against(contract, source, mapping, propose, as_json=as_json)


@app.command(epilog="Example:  polyclinic client data add warfarin extract.csv --map map.toml")
def add(
    study: StudyWord,
    source: Source,
    mapping: MapFile = None,
    declare: Annotated[
        int | None,
        typer.Option(
            help="Patients to declare; the table's, rounded to ten, if left out. A size far from "
            "the true one makes the study's metrics wrong.",
            min=1,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Check a table against a study, freeze a copy of it, and declare its rounded size.

    The table stays here. What leaves is shown first, and sent once you agree: this hospital's name
    in the study and the declared size. With --json nothing is asked.
    """
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.participation import add_data, find_study
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_common.cli.data import print_report
    from polyclinic_common.cli.output import print_json

    def agree(report: CheckReport, declaration: Declaration) -> None:
        if not as_json:
            print_report(report, source.name)
        _show(declaration)
        if not (yes or as_json):
            typer.confirm("Send it to the consortium?", abort=True, err=True)

    with ConsortiumClient.open(site) as client, SiteFolder.open(site) as opened:
        signed = find_study(client, study)
        report, declared = add_data(opened, client, signed, source, mapping, declare, agree)
    if as_json:
        print_json(report.as_dict() | {"declared": declared})
    elif not report.usable:
        print_report(report, source.name)
    report.require_usable()
    if not as_json:
        typer.echo(f"Frozen. Declared to the others: {declared} patients.")
        typer.echo(f"Next: polyclinic client study show {study}")


def _show(declaration: Declaration) -> None:
    """Say on standard error what is about to leave: every field, and what others learn from it."""
    from polyclinic_common.identity.site_key import fingerprint
    from polyclinic_common.text import plain

    for line in (
        "This leaves the hospital, signed with its key; the operator and all hospitals read it:",
        f"  study     {declaration.study_hash.hex()}",
        f"  hospital  {declaration.name}, fingerprint {fingerprint(declaration.identity)}",
        f"  patients  {declaration.declared}: the declared size. It bounds what the hospital may "
        "send, and training and metrics divide by it.",
        f"  held out  {declaration.held_out}: always. How many patients the study holds out, and "
        "how many of them have a known outcome, stays here.",
        "Nothing else leaves before the study is approved.",
    ):
        typer.echo(plain(line), err=True)
