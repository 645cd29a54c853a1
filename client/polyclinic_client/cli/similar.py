"""`polyclinic client similar`: this hospital's own patients who are like one, in a model's eyes.

Local: it opens no connection, writes nothing, and there is no kind of release for what it shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.options import AsJson, BundleFile, OperatorOption

EXAMPLE = "Example:  polyclinic client similar FILE.polyclinic --patient age=61 sex=female"

if TYPE_CHECKING:
    import pandas as pd

    from polyclinic_common.bundle.similar import Line, Similar


def similar(
    file: BundleFile,
    patient: Annotated[
        list[str],
        typer.Option(help="The patient: COLUMN=VALUE …; what is left out is missing."),
    ],
    site: SiteOption = SITE,
    operator: OperatorOption = None,
    as_json: AsJson = False,
) -> None:
    """Summarise the patients of this hospital's own table who are nearest to one patient.

    Near is who the model sees as alike; treatments and outcomes of five patients or more are
    summarised. Nothing leaves, and no patient is named.
    """
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.bundle.patients import parse_patient, patient_frame
    from polyclinic_common.bundle.similar import OwnPatients
    from polyclinic_common.cli.output import print_json

    opened = open_bundle(file, site, operator)
    study, weights = opened.bundle.study, opened.bundle.model.weights
    asked = patient_frame(study, parse_patient(patient))
    table = own_table(site, bytes.fromhex(opened.bundle.facts.study_hash))
    found = OwnPatients(study, weights, table).like(asked)
    if as_json:
        print_json(_as_dict(found) | {"notes": list(opened.notes)})
        return
    _print(found)
    for note in opened.notes:
        typer.secho(note, bold=note.startswith("SIMULATED"))


def own_table(site: Path, study_hash: bytes) -> pd.DataFrame:
    """Return the table that the site in a folder froze for a study.

    Raises
    ------
    ConsortiumError
        C020 if there is none, C021 if it is not what was frozen, C025 if the site has not joined.
    LedgerError
        As `SiteFolder.open`.
    """
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_client.study_book.book import StudyBook

    with SiteFolder.open(site, read_only=True) as opened:
        return StudyBook.open(opened).table(study_hash)


def _as_dict(found: Similar) -> dict[str, object]:
    return {
        "patients": found.patients,
        "likeness": found.likeness,
        "treatments": [line._asdict() for line in found.treatments],
        "outcomes": [line._asdict() for line in found.outcomes],
    }


def _print(found: Similar) -> None:
    if not found.patients:
        typer.echo(found.likeness)
        return
    typer.secho(f"The {found.patients} nearest patients here are {found.likeness}.", bold=True)
    _print_lines("Their treatment", found.treatments)
    _print_lines("What became of them", found.outcomes)
    typer.echo(
        "Treatments were not given by chance unless a trial gave them: what happened to these "
        "patients does not tell which treatment is better."
    )


def _print_lines(title: str, lines: tuple[Line, ...]) -> None:
    from polyclinic_common.text import plain

    if lines:
        typer.secho(title, bold=True)
    for line in lines:
        typer.echo(f"  {plain(line.of)}: {plain(line.words)}")
