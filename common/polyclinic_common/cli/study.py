"""`polyclinic study`: write, check and read study manifests."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.files import write_new

if TYPE_CHECKING:
    from polyclinic_common.study import Study

app = typer.Typer(no_args_is_help=True, help="Write, check and read study manifests.")
StudyFile = Annotated[
    Path,
    typer.Argument(help="The study manifest (TOML), or a built-in study.", metavar="FILE|NAME"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Out = Annotated[
    Path | None, typer.Option(help="Write to this new file instead of standard output.")
]


@app.callback()
def root() -> None:
    """Write, check and read study manifests."""


@app.command(epilog="Example:  polyclinic study check warfarin.toml")
def check(file: StudyFile, as_json: AsJson = False) -> None:
    """Validate a study and name every wrong field with its remedy."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.study import load_study
    from polyclinic_common.study.built_in import manifest_of

    study = load_study(manifest_of(file))
    privacy = study.privacy
    facts: dict[str, object] = {
        "id": study.id,
        "version": study.version,
        "hash": study.hash(),
        "sites": list(study.roster.sites),
        "held_out": [site for site in study.roster.sites if site not in study.training_sites]
        or None,
        "features": [feature.name for feature in study.cohort.features],
        "outcome": study.outcome.kind,
        "mode": privacy.mode,
        "epsilon": None if privacy.mode == "none" else privacy.epsilon,
        "delta": None if privacy.mode == "none" else privacy.delta,
        "expires": study.expires.isoformat(),
    }
    if as_json:
        print_json({"valid": True} | facts | {"notes": _notes(study)})
        return
    typer.echo(f"{file.name} is a valid study.")
    for name, value in facts.items():
        if value is not None:
            words = f"{len(value)}: {', '.join(value)}" if isinstance(value, list) else value
            typer.echo(f"  {name:<9} {words}")
    for note in _notes(study):
        typer.echo(f"Note: {note}")


@app.command(epilog="Example:  polyclinic study new --out warfarin.toml")
def new(out: Out = None) -> None:
    """Write a commented study to start from."""
    from polyclinic_common.study.load import TEMPLATE

    text = TEMPLATE.read_text(encoding="utf-8")
    if out is None:
        sys.stdout.write(text)
        return
    write_new(out, text)
    typer.echo(f"Wrote {out}. Edit it, then run: polyclinic study check {out}")


@app.command("list", epilog="Example:  polyclinic study list")
def list_studies(as_json: AsJson = False) -> None:
    """List the built-in studies: `study show NAME` and `simulate NAME` take their names."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.study import load_study
    from polyclinic_common.study.built_in import built_in_studies

    studies = {name: load_study(path) for name, path in built_in_studies().items()}
    if as_json:
        print_json([_in_list(name, study) for name, study in studies.items()])
        return
    for name, study in studies.items():
        typer.echo(f"{name:<14} {study.outcome.kind:<11} {study.title}")
    if not studies:
        typer.echo("None: they come with the extra `simulations`.")


def _in_list(name: str, study: Study) -> dict[str, object]:
    return {
        "name": name,
        "title": study.title,
        "outcome": study.outcome.kind,
        "hospitals": len(study.roster.sites),
        "synthetic": study.synthetic,
    }


@app.command(epilog="Example:  polyclinic study show gbsg2")
def show(file: StudyFile, as_json: AsJson = False) -> None:
    """Say in plain words what a study asks, computes and promises."""
    from dataclasses import asdict

    from polyclinic_common.cli.output import print_json
    from polyclinic_common.releases.plain_words import describe
    from polyclinic_common.study import load_study
    from polyclinic_common.study.built_in import manifest_of

    study = load_study(manifest_of(file))
    sections = describe(study)
    if as_json:
        print_json(
            {
                "id": study.id,
                "version": study.version,
                "hash": study.hash(),
                "sections": [asdict(section) for section in sections],
                "canonical": study.canonical(),
            }
        )
        return
    print_sections(study.title, [(section.title, section.lines) for section in sections])


@app.command(epilog="Example:  polyclinic study coefficients model.safetensors --out model.csv")
def coefficients(
    model: Annotated[Path, typer.Argument(help="A trained or released linear model.")],
    out: Out = None,
) -> None:
    """Write a linear model as a table in natural units, which `simulate --start` reads too."""
    from polyclinic_common.data.encoding import Encoding
    from polyclinic_common.errors import Code, ModelError
    from polyclinic_common.models.coefficients import rows_of, write_rows
    from polyclinic_common.models.vectors import load_model

    saved = load_model(model)
    if saved.study is None:
        raise ModelError(
            Code.MODEL_UNREADABLE,
            f"The model in {model.name} is of an earlier version and does not hold its study.",
            "Train it again with this version.",
        )
    text = write_rows(rows_of(saved.study, Encoding(saved.study), saved.weights))
    if out is None:
        sys.stdout.write(text)
        return
    write_new(out, text)
    typer.echo(f"Wrote {out}.")


def _notes(study: Study) -> list[str]:
    """Return what the author of a valid study should look at once more."""
    from polyclinic_common.data.genotype import is_palindromic
    from polyclinic_common.study.features import Snp

    return [
        f"{feature.name}: {feature.reference}/{feature.effect} reads alike on both strands, so no "
        "table shows its strand. Name the strand in `source`; hospitals say theirs in the mapping."
        for feature in study.cohort.features
        if isinstance(feature, Snp) and is_palindromic(feature)
    ]


def print_sections(title: str, sections: list[tuple[str, tuple[str, ...]]]) -> None:
    """Print headings and their lines, wrapped for this terminal."""
    width = max(40, min(100, shutil.get_terminal_size().columns))
    typer.secho(title, bold=True)
    for heading, lines in sections:
        typer.secho(f"\n{heading}", bold=True)
        for line in lines:
            typer.echo(textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    "))
