"""`polyclinic model calibrate`: what a hospital's own patients say of a released model."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyclinic_common.cli.data import MapFile
from polyclinic_common.cli.options import (
    SITE,
    AsJson,
    BundleFile,
    HospitalOption,
    OperatorOption,
    SiteOption,
)

if TYPE_CHECKING:
    from polyclinic_common.bundle.local_calibration import LocalCalibration
    from polyclinic_common.bundle.local_patients import Wanted
    from polyclinic_common.bundle.opening import OpenedBundle
    from polyclinic_common.bundle.predictor import Predictor
    from polyclinic_common.bundle.untrained import Untrained
    from polyclinic_common.study import Study

EXAMPLE = (
    "Example:  polyclinic model calibrate iwpc-1.0.0-run-1.polyclinic newer.csv --map map.toml"
)
NOT_TRAINED = (
    "Of patients who are not in the study's own table only you can say that the model was not "
    "trained on them: they must be newer, or never have taken part. With others every interval is "
    "too narrow."
)


def calibrate(
    file: BundleFile,
    table: Annotated[
        Path,
        typer.Argument(
            help="Patients with known outcomes whom the model was NOT trained on (CSV, Excel or "
            "Parquet).",
            metavar="TABLE",
        ),
    ],
    mapping: MapFile = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Keep the result in this file instead of the site's folder."),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.5, help="Share of patients that may lie outside their interval."
        ),
    ] = 0.1,
    method: Annotated[
        Literal["bins", "venn-abers"], typer.Option(help="How probabilities are judged.")
    ] = "bins",
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Fit level and slope anew, if these patients ask for it."),
    ] = False,
    hospital: HospitalOption = None,
    site: SiteOption = SITE,
    operator: OperatorOption = None,
    as_json: AsJson = False,
) -> None:
    """Measure on this hospital's own patients how far a model's predictions can be trusted.

    The patients must be newer than the study's table, or never have been trained on: with others
    every interval is too narrow. Patients of the table that the site's folder froze for the study
    are looked up, and count only if the study holds them out. The result is kept in the site's
    folder (or in --out), readable by its owner only; nothing is sent.
    """
    from polyclinic_common.bundle.local_calibration import keep, kept_at
    from polyclinic_common.bundle.local_patients import Wanted
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.bundle.predictor import Predictor
    from polyclinic_common.cli.output import print_json

    if out is None and not site.is_dir():
        raise typer.BadParameter(f"there is no site's folder {site}: name it by --site, or --out")
    opened = open_bundle(file, site, operator)
    predictor = Predictor(
        opened.bundle.study, opened.bundle.model.weights, hospital or opened.hospital
    )
    found, looked = _found(
        opened, predictor, table, mapping, site, Wanted(alpha=alpha, method=method, refit=refit)
    )
    place = out or kept_at(site, opened.bundle.digest)
    keep(found, place)
    if as_json:
        told = {"file": str(place), "trained_left_out": looked.trained, "looked_up": looked.looked}
        print_json(told | found.model_dump(mode="json"))
        return
    _show(predictor.study, found, looked, place)
    for note in opened.notes:
        typer.echo(note)


def _found(
    opened: OpenedBundle,
    predictor: Predictor,
    table: Path,
    mapping: Path | None,
    site: Path,
    wanted: Wanted,
) -> tuple[LocalCalibration, Untrained]:
    """Return what the patients of a table say, and which of them were trained on."""
    from polyclinic_common.bundle.local_patients import LocalPatients, calibrated
    from polyclinic_common.bundle.untrained import untrained
    from polyclinic_common.data.check import check_table
    from polyclinic_common.data.files import read_table
    from polyclinic_common.data.mapping import load_mapping
    from polyclinic_common.data.newer import newer_patients
    from polyclinic_common.data.rules import Mapping

    study = predictor.study
    rules = Mapping() if mapping is None else load_mapping(mapping)
    extract = read_table(table, rules.table)
    frame = newer_patients(study, extract, rules)
    unused = tuple(str(name) for name in extract.columns if str(name) not in frame.columns)
    check_table(study, frame, rules, unused).require_usable()
    looked = untrained(study, opened.bundle.facts.study_hash, frame, site)
    rows = looked.rows & predictor.predict(frame).given
    patients = LocalPatients.of(predictor, frame, rows)
    found = calibrated(
        opened.bundle.digest,
        predictor,
        patients,
        wanted,
        held_out=looked.held_out,
        made=dt.datetime.now(tz=dt.UTC).date(),
    )
    return found, looked


def _show(study: Study, found: LocalCalibration, looked: Untrained, place: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_common.bundle.calibration_words import refit_words, rows_of, titles_of

    console = Console(highlight=False)
    console.print(
        f"[bold]{found.patients} patients[/] give the intervals, at {1 - found.alpha:.0%}."
    )
    if looked.trained or looked.held_out:
        console.print(
            f"{looked.trained} patients were left out: the model was trained on them. "
            f"{looked.held_out} of the study's own table count: the study holds them out."
        )
    grid = Table(*titles_of(study, found), box=SIMPLE_HEAD, pad_edge=False)
    for row in rows_of(study, found):
        grid.add_row(*map(escape, row))
    console.print(grid)
    if found.refit is not None:
        console.print(refit_words(found.refit))
    console.print(NOT_TRAINED)
    typer.echo(f"Kept in {place} (local only).")
