"""`polyclinic audit noise`: a lower bound on epsilon, beside what is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import click
import typer

from polyclinic_common.cli.options import AsJson
from polyclinic_simulations.audit.options import EpsilonOption, StudyName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyclinic_simulations.audit.noise import NoiseAudit

GradientsOption = Annotated[
    str,
    typer.Option(
        click_type=click.Choice(["opacus", "fast"]),
        help="opacus, as a hospital's node, or fast (closed form).",
    ),
]
KindOption = Annotated[
    list[str] | None,
    typer.Option(
        click_type=click.Choice(
            ["gradient", "statistics", "update", "calibration", "metrics", "vote"]
        ),
        help="A kind of release; may be given again. Default: all that the study makes.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to the group of audits."""
    app.command(epilog="Example:  polyclinic audit noise gbsg2 --epsilon 2")(noise)


def noise(
    study: StudyName,
    epsilon: EpsilonOption = None,
    gradients: GradientsOption = "opacus",
    kind: KindOption = None,
    repetitions: Annotated[int, typer.Option(help="Audit so many times.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Prove a lower bound on epsilon from canaries, step by step, beside what is charged.

    Ends with error P005 if the bound lies above the charge, or if noise repeats.
    """
    import torch

    from polyclinic_common.cli.output import print_json
    from polyclinic_common.errors import Code, PrivacyError
    from polyclinic_simulations.audit.noise import audit_noise
    from polyclinic_simulations.federation.setting import Setting
    from polyclinic_simulations.studies.registry import find_study

    torch.set_num_threads(1)  # blocks are small: more threads wait for each other
    manifest = find_study(study)
    if epsilon is not None:
        manifest = Setting(manifest.privacy.mode, epsilon, manifest.strategy).apply(manifest)
    audits = [audit_noise(manifest, gradients, kinds=kind or ()) for _ in range(repetitions)]
    if as_json:
        print_json([audit.as_dict() for audit in audits])
    else:
        _print_audits(audits)
    if any(audit.refuted for audit in audits):
        raise PrivacyError(
            Code.PRIVACY_REFUTED,
            "The audit proves more than what is charged, or noise that repeats.",
            "Stop releasing, and report a defect with the output of --json.",
        )


def _print_audits(audits: Sequence[NoiseAudit]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    first, console = audits[0], Console(highlight=False)
    console.print(
        f"[bold]Noise of {first.study}[/], mode {first.mode}, {first.rounds} rounds, delta "
        f"{first.delta:g}, {first.gradients} gradients, "
        f"{sum(audit.seconds for audit in audits):.1f} s"
    )
    table = Table("release", "epsilon", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("claimed", "at least", "share", "canaries", "guessed right", "noise"):
        table.add_column(name, justify="right")
    for audit in audits:
        for found in audit.findings:
            right = found.guesses.hits + found.guesses.strangers - found.guesses.alarms
            fresh = "-" if found.correlation_chance is None else "fresh"
            table.add_row(
                found.kind,
                found.reader,
                f"{found.claimed:.3f}",
                f"{found.at_least:.3f}",
                f"{found.at_least / found.claimed:.1%}",
                f"{found.canaries} of {found.copies}",
                f"{right / (found.guesses.members + found.guesses.strangers):.1%}",
                "[red]refuted[/]" if found.refuted else fresh,
            )
    console.print(table)
    console.print("At least: at 95 %, all bounds of 100 such audits together; see docs/audit.md.")
