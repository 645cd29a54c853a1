"""`polyclinic client data`: freeze a table for a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.study import AsJson, Out

app = typer.Typer(no_args_is_help=True, help="Add this hospital's data to a study.")


@app.callback()
def root() -> None:
    """Add this hospital's data to a study; they are copied to the site's folder and stay there."""


StudyWord = Annotated[str, typer.Argument(help="The study: its id, or the start of its hash.")]
Source = Annotated[Path, typer.Argument(help="The hospital's table (CSV or Parquet).")]


@app.command(
    "map", epilog="Example:  polyclinic client data map warfarin extract.csv --out map.toml"
)
def write_map(study: StudyWord, source: Source, out: Out = None, site: SiteOption = SITE) -> None:
    """Write a first mapping from the table's columns to the study's, to be edited."""
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.take_part import find_study
    from polyclinic_common.cli.data import first_map

    with ConsortiumClient.open(site) as client:
        contract = find_study(client, study).read(client.membership.operator_key)
    following = f"polyclinic client data add {study} {source} --map {out}"
    first_map(contract, source, out, following)


@app.command(epilog="Example:  polyclinic client data add warfarin extract.csv --map map.toml")
def add(
    study: StudyWord,
    source: Source,
    mapping: Annotated[
        Path | None,
        typer.Option("--map", help="Mapping of the table's columns to the study's (TOML)."),
    ] = None,
    declare: Annotated[
        int | None,
        typer.Option(help="Patients to declare to the others; rounded to ten if left out.", min=1),
    ] = None,
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Check a table against a study, freeze a copy of it, and declare its rounded size.

    The table stays here. What leaves: this hospital's name in the study, the declared size, and, if
    the study releases metrics, how many held-out patients have a known outcome, rounded to ten.
    """
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.take_part import add_data, find_study
    from polyclinic_client.site_folder import SiteFolder
    from polyclinic_client.studies import StudyBook
    from polyclinic_common.cli.data import print_report
    from polyclinic_common.cli.main import print_json

    with ConsortiumClient.open(site) as client, SiteFolder.open(site) as opened:
        signed = find_study(client, study)
        report, declared = add_data(opened, client, signed, source, mapping, declare)
        held_out = StudyBook.open(opened).declaration(signed.hash).held_out if declared else 0
    if as_json:
        print_json(report.as_dict() | {"declared": declared, "held_out": held_out})
    else:
        print_report(report, source.name)
    report.require_usable()
    if not as_json:
        further = f", and {held_out} held out with a known outcome" if held_out else ""
        typer.echo(f"Frozen. Declared to the others: {declared} patients{further}.")
        typer.echo(f"Next: polyclinic client study show {study}")
