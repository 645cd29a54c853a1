"""`polyclinic predict`: ask a released model about patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.cli.data import MapFile
from polyclinic_common.cli.many_values import ManyValues
from polyclinic_common.cli.options import (
    SITE,
    AsJson,
    BundleFile,
    HospitalOption,
    OperatorOption,
    SiteOption,
)

if TYPE_CHECKING:
    import pandas as pd

    from polyclinic_common.bundle.here import ModelHere
    from polyclinic_common.bundle.predictor import Predicted
    from polyclinic_common.bundle.reasons import Reasons

EXAMPLES = """
Examples:

  polyclinic predict warfarin-1.0-1f0c.polyclinic --patient age=61 sex=female weight=70

  polyclinic predict warfarin-1.0-1f0c.polyclinic patients.csv --map map.toml --out doses.csv

  polyclinic predict warfarin-1.0-1f0c.polyclinic patients.parquet --json

  polyclinic predict warfarin-1.0-1f0c.polyclinic --serve
"""
NO_INTERVAL = (
    "How far this can be trusted is not known here: calibrate the model on this hospital's "
    "patients (polyclinic model calibrate)."
)
app = typer.Typer(add_completion=False)


@app.command(cls=ManyValues, epilog=EXAMPLES)
def predict(
    file: BundleFile,
    table: Annotated[
        Path | None, typer.Argument(help="Patients (CSV, Excel or Parquet).", metavar="TABLE")
    ] = None,
    patient: Annotated[
        list[str] | None,
        typer.Option(help="One patient: COLUMN=VALUE …; what is left out is missing."),
    ] = None,
    mapping: MapFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the predictions to this new file (.csv, .parquet).")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Give no number where a value is outside its range."),
    ] = False,
    hospital: HospitalOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="What `polyclinic model calibrate --out` wrote (default: the site's)."),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve a page with a form, to this machine alone."),
    ] = False,
    site: SiteOption = SITE,
    operator: OperatorOption = None,
    as_json: AsJson = False,
) -> None:
    """Predict for the patients of a table, or for one patient; nothing leaves this machine.

    One odd patient never blocks the others: what is missing, clamped or not covered is told beside
    each. A column that is another one as a whole refuses the table.
    """
    from polyclinic_common.bundle.here import ModelHere
    from polyclinic_common.bundle.opening import open_bundle

    if [table is not None, bool(patient), serve].count(True) != 1:
        raise typer.BadParameter("give a TABLE, or one patient by --patient, or --serve")
    told = out is not None or mapping is not None
    if table is None and (told or (serve and (strict or as_json))):
        raise typer.BadParameter(
            "--map and --out go with a TABLE; --strict and --json not with --serve"
        )
    here = ModelHere.of(open_bundle(file, site, operator), site, hospital, calibration)
    if serve:
        _serve(here, site)
    elif table is None:
        _one(here, patient or [], strict=strict, as_json=as_json)
    else:
        _many(here, table, mapping, out, strict=strict, as_json=as_json)


def _serve(here: ModelHere, site: Path) -> None:
    from polyclinic_common.bedside.serve import serve as serve_page
    from polyclinic_common.bundle.untrained import frozen_table

    own = frozen_table(site, here.opened.bundle.facts.study_hash)
    typer.echo("For this machine alone, until Ctrl-C; nothing that is entered is kept:", err=True)
    serve_page(here, typer.echo, table=own)


def _one(here: ModelHere, given: list[str], *, strict: bool, as_json: bool) -> None:
    from polyclinic_common.bundle.answers import as_records, headline_words
    from polyclinic_common.bundle.patients import parse_patient, patient_frame
    from polyclinic_common.cli.output import print_json

    study = here.predictor.study
    predicted = here.predictor.predict(patient_frame(study, parse_patient(given)), strict=strict)
    reasons = _reasons(here, predicted)
    if as_json:
        print_json(_facts(here) | as_records(here, predicted, None, reasons)[0])
        return
    for line in headline_words(study, predicted):
        typer.secho(line, bold=True)
    for line in interval_words(here, predicted):
        typer.echo(line)
    if predicted.given[0] and reasons is not None:
        _print_reasons(reasons)
    for flag in predicted.flags[0]:
        typer.echo(f"{flag.kind}: {flag.words}")
    for note in here.notes:
        typer.secho(note, bold=note.startswith("SIMULATED"))
    typer.echo(f"Privacy of the patients in it: {here.opened.bundle.certificate.sentence}")


def _reasons(here: ModelHere, predicted: Predicted) -> Reasons | None:
    """Return the reasons; None for a kind of model that does not read columns one by one."""
    from polyclinic_common.bundle.reasons import contributions
    from polyclinic_common.models.head import head_of

    if not head_of(here.predictor.study).as_encoded:
        return None
    return contributions(here.predictor.study, here.predictor.weights, predicted.x)


def interval_words(here: ModelHere, predicted: Predicted) -> list[str]:
    """Say how far one patient's prediction can be trusted."""
    found = [*here.intervals(predicted), *here.survival_intervals(predicted)[0]]
    said = [each.words for each in found if each is not None]
    return said or ([NO_INTERVAL] if predicted.given[0] else [])


def _many(
    here: ModelHere,
    table: Path,
    mapping: Path | None,
    out: Path | None,
    *,
    strict: bool,
    as_json: bool,
) -> None:
    from polyclinic_common.bundle.answers import as_records, as_table
    from polyclinic_common.bundle.patients import numbers_of, to_contract
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.data.files import read_table
    from polyclinic_common.data.mapping import load_mapping
    from polyclinic_common.data.rules import Mapping

    study = here.predictor.study
    rules = Mapping() if mapping is None else load_mapping(mapping)
    frame = read_table(table, rules.table)
    predicted = here.predictor.predict(to_contract(study, frame, rules), strict=strict)
    patients = numbers_of(study, frame, rules)
    if out is not None:
        _write(out, as_table(here, predicted, patients))
    if as_json:
        print_json(_facts(here) | {"patients": as_records(here, predicted, patients, None)})
        return
    if out is None:
        typer.echo(as_table(here, predicted, patients).to_csv(index=False), nl=False)
    without = int((~predicted.given).sum())
    typer.echo(f"{len(predicted)} patients, {without} of them without a number.", err=True)
    for note in here.notes:
        typer.secho(note, err=True)


def _write(out: Path, frame: pd.DataFrame) -> None:
    import io

    from polyclinic_common.files import write_new

    if out.suffix.lower() in {".parquet", ".pq"}:
        target = io.BytesIO()
        frame.to_parquet(target, index=False)
        write_new(out, target.getvalue())
    else:
        write_new(out, frame.to_csv(index=False))


def _print_reasons(reasons: Reasons) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = reasons.table()
    grid = Table("reason", "this patient", "typical", box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("adds", justify="right")
    grid.add_column("")
    bars = {bar.feature: bar.length for bar in reasons.bars()}
    for each in found:
        bar = "█" * round(8 * abs(bars[each.feature]))
        sign = f"{each.contribution:+.3g}"
        grid.add_row(escape(each.feature), escape(each.value), escape(each.typical), sign, bar)
    console = Console(highlight=False)
    console.print(grid)
    unit, base = escape(reasons.outcome.unit), f"{reasons.outcome.base:.4g}"
    console.print(f"Added to {base}, of the study's public typical patient, in {unit}.")


def _facts(here: ModelHere) -> dict[str, object]:
    """Return, for JSON, which model answers, and what has to be told beside it."""
    bundle = here.opened.bundle
    said = {
        "digest": bundle.digest,
        "simulated": bundle.facts.simulated,
        "study": bundle.facts.study,
        "study_version": bundle.facts.study_version,
        "run": bundle.facts.run,
        "epsilon": bundle.certificate.epsilon,
        "delta": bundle.certificate.delta,
    }
    return {"bundle": said, "notes": list(here.notes)}
