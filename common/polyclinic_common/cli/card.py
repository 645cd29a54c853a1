"""`polyclinic model card` and `card-template`: the model card, and what people know of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.cli.options import SITE, AsJson, BundleFile, OperatorOption, SiteOption
from polyclinic_common.cli.study import Out, StudyFile
from polyclinic_common.files import write_new

if TYPE_CHECKING:
    from polyclinic_common.bundle.card import Card
    from polyclinic_common.bundle.here import ModelHere

ADDED = "added_by_this_hospital"


def card(
    file: BundleFile,
    out: Annotated[Path | None, typer.Option(help="Write the page to this new file.")] = None,
    xml: Annotated[
        Path | None, typer.Option(help="Write CHAI's applied model card to this new file.")
    ] = None,
    site: SiteOption = SITE,
    operator: OperatorOption = None,
    as_json: AsJson = False,
) -> None:
    """Write the card of a released model: as a page, as XML of CHAI, or print its JSON.

    Where this hospital set the model right for its own patients (--site), page and JSON say so, as
    its own addition; the XML is the card as it was signed.
    """
    from polyclinic_common.bundle.card_page import card_html
    from polyclinic_common.bundle.chai import card_xml
    from polyclinic_common.bundle.here import ModelHere
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.cli.output import print_json

    if out is None and xml is None and not as_json:
        raise typer.BadParameter("give --out card.html, --xml card.xml or --json")
    opened = open_bundle(file, site, operator)
    read, notes = opened.bundle.card, _added(ModelHere.of(opened, site, None))
    for path, text in ((out, card_html(read, notes)), (xml, card_xml(read))):
        if path is not None:
            write_new(path, text)
            typer.echo(f"Wrote {path}.", err=True)
    if as_json:
        added = {ADDED: list(notes)} if notes else {}
        print_json(read.model_dump(mode="json", exclude_none=True) | added)
    else:
        typer.echo(_filled(read))


def card_template(study: StudyFile, out: Out = None) -> None:
    """Write a first card.toml: what only people know of a model, for `server release --card`."""
    from polyclinic_common.bundle.card_file import card_template as template
    from polyclinic_common.study import load_study

    text = template(load_study(study))
    if out is None:
        sys.stdout.write(text)
        return
    write_new(out, text)
    typer.echo(f"Wrote {out}. Fill it, then run: polyclinic server release RUN --card {out}")


def _added(here: ModelHere) -> tuple[str, ...]:
    """Return what this hospital has to add to the card: that it set the model right, and when."""
    from polyclinic_common.bundle.here import RECALIBRATED

    local = here.local
    if local is None or local.refit is None or not local.recalibrated:
        return ()
    return (f"{RECALIBRATED} Done on {local.made}, with {local.refit.patients} patients.",)


def _filled(read: Card) -> str:
    """Say how much of the card nobody has filled in."""
    left = [item.who for item in read.empty if item.who is not None]
    counted = ", ".join(f"{who} {left.count(who)}" for who in dict.fromkeys(left))
    return (
        f"{len(left)} of {len(read.items)} fields are not filled in{': ' if left else ''}{counted}."
    )
