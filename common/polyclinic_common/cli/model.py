"""`polyclinic model`: check a released model, read it, turn it into other forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from polyclinic_common.cli.calibrate import EXAMPLE as CALIBRATE_EXAMPLE
from polyclinic_common.cli.calibrate import calibrate
from polyclinic_common.cli.card import card, card_template
from polyclinic_common.cli.export import export
from polyclinic_common.cli.options import SITE, AsJson, BundleFile, OperatorOption, SiteOption

if TYPE_CHECKING:
    from polyclinic_common.bundle.coefficients import Coefficient

app = typer.Typer(
    no_args_is_help=True, help="Check a released model, read it, turn it into other forms."
)


@app.callback()
def root() -> None:
    """Check a released model, read it, turn it into other forms."""


@app.command(epilog="Example:  polyclinic model verify warfarin-1.0-1f0c.polyclinic")
def verify(
    file: BundleFile,
    site: SiteOption = SITE,
    operator: OperatorOption = None,
    as_json: AsJson = False,
) -> None:
    """Check a bundle offline: every byte, every signature, its study, and that epsilon follows.

    Exit status 0 if all of it holds and the operator is known here.
    """
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.bundle.verification import findings, require_approved
    from polyclinic_common.cli.output import print_json

    opened = open_bundle(file, site, operator)
    require_approved(opened)
    found = findings(opened)
    if as_json:
        facts = opened.bundle.facts.model_dump()
        print_json({"holds": True, "digest": opened.bundle.digest} | facts | {"findings": found})
        return
    for line in found:
        typer.echo(line)


@app.command(epilog="Example:  polyclinic model show warfarin-1.0-1f0c.polyclinic")
def show(
    file: BundleFile,
    site: SiteOption = SITE,
    operator: OperatorOption = None,
    as_json: AsJson = False,
) -> None:
    """Say in plain words what a model is, how good, at what price; with its coefficients."""
    from polyclinic_common.bundle.coefficients import coefficients_of
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.bundle.plain_words import describe
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.cli.study import print_sections

    opened = open_bundle(file, site, operator)
    found, sections = coefficients_of(opened.bundle), describe(opened)
    if as_json:
        said = {section.title: section.lines for section in sections}
        print_json({"sections": said, "coefficients": [vars(each) for each in found]})
        return
    print_sections(opened.bundle.study.title, [(each.title, each.lines) for each in sections])
    _print_coefficients(found)


def _print_coefficients(found: tuple[Coefficient, ...]) -> None:
    """Print coefficients with the interval of the noise alone."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not found:
        typer.echo("\nHidden layers: this model has no coefficients; `predict` gives reasons.")
        return
    grid = Table("column", box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("coefficient", justify="right")
    grid.add_column("by noise alone, at most", justify="right")
    grid.add_column("unit")
    for each in found:
        known = each.low is not None and each.high is not None
        ends = f"{each.low:.3g} to {each.high:.3g}" if known else ""
        grid.add_row(escape(each.name), f"{each.value:.4g}", ends, escape(each.unit))
    Console(highlight=False).print(grid)


app.command(epilog="Example:  polyclinic model card FILE --out card.html --xml card.xml")(card)
app.command("card-template", epilog="Example:  polyclinic model card-template warfarin.toml")(
    card_template
)
app.command(epilog=CALIBRATE_EXAMPLE)(calibrate)
app.command(epilog="Example:  polyclinic model export warfarin-1.0-1f0c.polyclinic --onnx w.onnx")(
    export
)
