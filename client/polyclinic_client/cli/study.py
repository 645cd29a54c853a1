"""`polyclinic client study`: what is on offer, what it means, approve it or not."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.options import AsJson

if TYPE_CHECKING:
    from polyclinic_client.consortium.offers import Shown
    from polyclinic_client.consortium.participation import Proposal

app = typer.Typer(no_args_is_help=True, help="Studies: see, approve, withdraw.")
StudyWord = Annotated[
    str, typer.Argument(help="The study: its id, or the start of its hash.", metavar="STUDY")
]
Lost = Annotated[
    int | None,
    typer.Option(help="Rounds that may stay at fallback; a tenth if left out.", min=0),
]


@app.callback()
def root() -> None:
    """See what is on offer, what it means and costs, and approve it or not."""


@app.command("list", epilog="Example:  polyclinic client study list")
def list_studies(site: SiteOption = SITE, as_json: AsJson = False) -> None:
    """Show every study on offer and how far it is; only those signed by the operator."""
    from dataclasses import asdict

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.offers import offers
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_common.cli.output import print_json

    with ConsortiumClient.open(site) as client, SiteFolder.open(site, read_only=True) as opened:
        found = offers(opened, client)
    if as_json:
        print_json([asdict(offer) for offer in found])
        return
    table = Table("study", "title", "hash", "expires", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("declared", "approved", "here"):
        table.add_column(heading)
    for offer in found:
        table.add_row(
            offer.id,
            escape(offer.title),
            offer.hash[:12],
            offer.expires,
            f"{offer.declared} of {offer.sites or '?'}",
            f"{offer.approved} of {offer.sites or '?'}",
            offer.here,
        )
    Console(highlight=False).print(table)


@app.command(epilog="Example:  polyclinic client study show warfarin")
def show(study: StudyWord, site: SiteOption = SITE, as_json: AsJson = False) -> None:
    """Say in plain words what a study asks, computes, sends and costs, and who asks."""
    from dataclasses import asdict

    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.offers import show_study
    from polyclinic_client.consortium.participation import find_study
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_common.cli.output import print_json

    with ConsortiumClient.open(site) as client, SiteFolder.open(site, read_only=True) as opened:
        shown = show_study(opened, client, find_study(client, study))
    if as_json:
        print_json(asdict(shown))
        return
    _print(shown)


@app.command(epilog="Example:  polyclinic client study approve warfarin")
def approve(
    study: StudyWord,
    lost_rounds: Lost = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Approve a study: sign it together with this hospital's limits, in ledger and consortium.

    It is the study that data were added for, as it was kept then; the server names none anew.
    """
    from dataclasses import asdict

    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.participation import approve as sign
    from polyclinic_client.consortium.participation import finite, propose
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_client.study_book.book import StudyBook
    from polyclinic_common.cli.output import print_json

    with ConsortiumClient.open(site) as client, SiteFolder.open(site) as opened:
        kept = StudyBook.open(opened).find(study)
        proposal = propose(opened, client, kept.hash, lost_rounds)
        if not yes:
            _ask(proposal)
        sign(opened, client, proposal)
    if as_json:
        print_json(
            {
                "study": proposal.study.id,
                "hash": proposal.study.hash(),
                "at_most": finite(proposal.epsilon),
                "fallback": finite(proposal.fallback),
                "verified": len(proposal.checked.verified),
                "lost_rounds": proposal.approval.lost_rounds,
                "settled": [asdict(each) | {"words": str(each)} for each in proposal.settled],
            }
        )
        return
    typer.echo(f"Approved {proposal.study.id}. To end it: polyclinic client study withdraw {study}")


@app.command(epilog="Example:  polyclinic client study withdraw warfarin")
def withdraw(study: StudyWord, site: SiteOption = SITE, as_json: AsJson = False) -> None:
    """End an approval at once and for good: nothing more is sent. What was spent stays spent.

    Holds without the server. To take part later, the operator publishes a new version of the study.
    """
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.consortium.participation import withdraw as end
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_client.study_book.book import StudyBook
    from polyclinic_common.cli.output import print_json

    with ConsortiumClient.open(site) as client, SiteFolder.open(site) as opened:
        signed = StudyBook.open(opened).find(study)
        told = end(opened, client, signed.hash)
    if as_json:
        print_json({"hash": signed.hash.hex(), "withdrawn": True, "told": told})
        return
    typer.echo("Withdrawn: nothing more is sent for this study.")
    if not told:
        typer.echo("The server could not be told; run it again when it is reached.")


def _print(shown: Shown) -> None:
    from polyclinic_common.text import plain

    width = max(40, min(100, shutil.get_terminal_size().columns))
    typer.secho(shown.title, bold=True)
    for section in shown.sections:
        typer.secho(f"\n{section.title}", bold=True)
        for line in map(plain, section.lines):  # some of it the server said
            typer.echo(textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    "))


def _ask(proposal: Proposal) -> None:
    from polyclinic_common.text import plain

    study, privacy = proposal.study, proposal.study.privacy
    for line in (
        f"{study.id} {study.version}: {study.title}",
        f"  hash      {study.hash()}",
        f"  mode      {privacy.mode}, m = {study.m}, c = {study.c}",
        f"  headline  epsilon {privacy.epsilon:g} at delta {privacy.delta:g}",
        f"  cost      at most epsilon {proposal.epsilon:.3f} of this hospital's account",
        f"  fallback  epsilon {proposal.fallback:.3f} if all others colluded",
        f"  verified  {len(proposal.checked.verified)} of {len(proposal.checked.roster)} "
        "hospitals, itself included",
        "What the mapping of this hospital's table settled; it stays here:",
        *(f"  {plain(str(each))}" for each in proposal.settled),
        *(() if proposal.settled else ("  nothing",)),
    ):
        typer.echo(line, err=True)
    typer.confirm("Let it run on this hospital's patients?", abort=True, err=True)
