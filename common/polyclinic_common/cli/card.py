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
    """Write the card of a released model: as a page, as XML of CHAI, or print its JSON."""
    from polyclinic_common.bundle.card_page import card_html
    from polyclinic_common.bundle.chai import card_xml
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.cli.output import print_json

    if out is None and xml is None and not as_json:
        raise typer.BadParameter("give --out card.html, --xml card.xml or --json")
    read = open_bundle(file, site, operator).bundle.card
    for path, render in ((out, card_html), (xml, card_xml)):
        if path is not None:
            write_new(path, render(read))
            typer.echo(f"Wrote {path}.", err=True)
    if as_json:
        print_json(read.model_dump(mode="json", exclude_none=True))
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


def _filled(read: Card) -> str:
    """Say how much of the card nobody has filled in."""
    left = [item.who for item in read.empty if item.who is not None]
    counted = ", ".join(f"{who} {left.count(who)}" for who in dict.fromkeys(left))
    return (
        f"{len(left)} of {len(read.items)} fields are not filled in{': ' if left else ''}{counted}."
    )
