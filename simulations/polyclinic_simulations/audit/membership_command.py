"""`polyclinic audit membership`: who was in the training of the released model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.cli.options import AsJson
from polyclinic_simulations.audit.options import EpsilonOption, StudyName

if TYPE_CHECKING:
    from polyclinic_simulations.audit.attack import Success
    from polyclinic_simulations.audit.membership import MembershipAudit


def add_to(app: typer.Typer) -> None:
    """Add the command to the group of audits."""
    app.command(epilog="Example:  polyclinic audit membership gbsg2 --epsilon 4 --out roc.svg")(
        membership
    )


def membership(
    study: StudyName,
    data: Annotated[
        Path | None, typer.Option(help="Table of a manifest; data folder of a built-in study.")
    ] = None,
    epsilon: EpsilonOption = None,
    models: Annotated[int, typer.Option(help="Models of each kind.", min=8)] = 256,
    out: Annotated[Path | None, typer.Option(help="Write the plot to this SVG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Attack the released model: who was in the training? Private beside non-private.

    LiRA and RMIA with shadow models; patients of --data, on this machine only.
    """
    from rich.console import Console
    from rich.progress import Progress

    from polyclinic_common.cli.output import print_json
    from polyclinic_simulations.audit.membership import audit_membership
    from polyclinic_simulations.federation.setting import Setting
    from polyclinic_simulations.studies import resolve

    manifest, frame = resolve(study, data)
    if epsilon is not None:
        manifest = Setting(manifest.privacy.mode, epsilon, manifest.strategy).apply(manifest)
    with Progress(console=Console(stderr=True), disable=as_json, transient=True) as progress:
        task = progress.add_task("models", total=2 * models)
        audit = audit_membership(manifest, frame, models, lambda: progress.advance(task))
    if out is not None:
        from polyclinic_simulations.audit.membership_plot import membership_plot

        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(str(membership_plot(audit).svg), encoding="utf-8")
    if as_json:
        print_json(audit.as_dict())
    else:
        _print_membership(audit)


def _print_membership(audit: MembershipAudit) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"[bold]Membership in {audit.study}[/]: {audit.patients} patients, half of them in each "
        f"of {audit.models} models of a kind; {audit.seconds:.0f} s"
    )
    table = Table("training", "attack", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("found at 1 % false alarms", justify="right")
    table.add_column("AUC", justify="right")
    for each in audit.attacked:
        for name, found in (("LiRA", each.lira), ("RMIA", each.rmia)):
            table.add_row(each.training, name, *_figures(found))
    console.print(table)
    console.print(
        f"Brackets: 95 % over resampled models. At epsilon {audit.epsilon:g} nobody finds more "
        f"than {audit.ceiling:.2%}, by any attack; guessing finds 1.00%."
    )


def _figures(found: Success) -> tuple[str, str]:
    low, high = found.hit_rate_interval
    below, above = found.auc_interval
    return (
        f"{found.hit_rate:.2%} [{low:.2%}, {high:.2%}]".replace("[", "\\["),
        f"{found.auc:.3f} [{below:.3f}, {above:.3f}]".replace("[", "\\["),
    )
