"""`polyclinic client monitor`: watch a released model on newer patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.cli.data import MapFile, Table
from polyclinic_common.cli.options import SITE, AsJson, BundleFile, SiteOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame

    from polyclinic_client.watch.finding import Verdict
    from polyclinic_client.watch.look import Look
    from polyclinic_client.watch.look_log import LookLog
    from polyclinic_common.bundle.bundle import Bundle
    from polyclinic_common.bundle.opening import OpenedBundle
    from polyclinic_common.evaluation.interval import Reading

STATUS: dict[Verdict, int] = {"fine": 0, "look": 40, "recalibrate": 41, "withdraw": 42}
"""Exit status of each verdict; errors have others."""
REFITTED = (
    "Patients on whom level and slope were fitted are judged kindly: leave them out of the table."
)


def monitor(
    file: BundleFile,
    table: Table,
    mapping: MapFile = None,
    site: SiteOption = SITE,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write a page, too; a new file.")] = None,
) -> None:
    """Look at newer patients, and say whether inputs or outcomes have left what was to be expected.

    TABLE holds all newer patients so far, oldest first; their outcomes as far as they are known.
    It is read here and stays here: nothing is sent.

    Exit status: 0 fine, 40 look, 41 recalibrate, 42 withdraw; an error has another. Where nothing
    has changed, all checks together alarm at most once in 60 looks, on average, if outcomes become
    known in the order of rows.
    """
    import datetime as dt

    from polyclinic_client.watch.look_log import LookEntry, LookLog
    from polyclinic_common.bundle.opening import open_bundle
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.files import write_new

    opened, today = open_bundle(file, site), dt.datetime.now(dt.UTC).date()
    log = LookLog(site, opened.bundle.digest)
    look = _look(opened, table, mapping, site, log)
    if html is not None:
        from polyclinic_client.watch.page import look_page

        write_new(html, look_page(look, file.name, today))
    log.add(LookEntry(day=today, rows=look.rows, known=look.known.patients, verdict=look.verdict))
    if as_json:
        print_json(look.as_dict())
    else:
        _print(look)
    raise typer.Exit(STATUS[look.verdict])


def _look(
    opened: OpenedBundle, table: Path, mapping: Path | None, site: Path, log: LookLog
) -> Look:
    """Return the look at the model as this hospital uses it: recalibrated, where it did so."""
    from dataclasses import replace

    from polyclinic_client.watch.look import take_look
    from polyclinic_common.bundle.here import ModelHere
    from polyclinic_common.data.files import read_table
    from polyclinic_common.data.mapping import load_mapping
    from polyclinic_common.data.newer import newer_patients
    from polyclinic_common.data.rules import Mapping as Rules

    name, frozen = _own_table(opened.bundle, site)
    here = ModelHere.of(opened, site, name)
    rules = Rules() if mapping is None else load_mapping(mapping)
    newer = newer_patients(opened.bundle.study, read_table(table, rules.table), rules)
    predicted = here.predictor.predict(newer)
    look = take_look(frozen, newer, predicted, _released(opened.bundle), log.read())
    refit = (REFITTED,) if here.local is not None and here.local.recalibrated else ()
    return replace(look, notes=(*look.notes, *here.notes, *refit))


def _own_table(bundle: Bundle, site: Path) -> tuple[str, DataFrame]:
    """Return this hospital's name in the bundle's study, and its frozen table of it.

    Raises
    ------
    BundleError
        B030 if it has none.
    """
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_client.study_book.book import StudyBook
    from polyclinic_common.errors import BundleError, Code

    study_hash = bytes.fromhex(bundle.facts.study_hash)
    with SiteFolder.open(site, read_only=True) as folder:
        book = StudyBook.open(folder)
        if not book.holds(study_hash):
            raise BundleError(
                Code.WATCH_STUDY,
                f"This hospital has no table of the study {bundle.study.id} "
                f"{bundle.study.version}, so that nothing can be compared with it.",
                "Give the bundle of a study that it takes part in: polyclinic client study list",
            )
        return book.declaration(study_hash).name, book.table(study_hash)


def _released(bundle: Bundle) -> Mapping[str, Reading]:
    """Return the released metrics of all patients together; exact ones of a simulation."""
    from polyclinic_common.evaluation.interval import Reading

    exact = {name: Reading(value, value, value) for name, value in bundle.evaluation.exact.items()}
    overall = bundle.evaluation.overall
    told = {} if overall is None else overall.metrics
    return exact | {name: reading for name, reading in told.items() if reading is not None}


def _print(look: Look) -> None:
    """Print a look for people."""
    from rich.console import Console
    from rich.markup import escape

    from polyclinic_common.text import plain

    console = Console(highlight=False, soft_wrap=True)
    colour = {"fine": "green", "look": "yellow"}.get(look.verdict, "bold red")
    if look.verdict == "fine" and look.performance is None:
        colour = "bold"
    console.print(f"[{colour}]{escape(look.headline)}[/]")
    for each in look.findings:
        console.print(f"  {escape(plain(each.reason))}")
        console.print(f"    [green]→[/] {escape(plain(each.then))}")
    found = look.performance
    if found is not None:
        console.print(
            f"  {found.patients} known outcomes; evidence of more than predicted "
            f"{found.sums.more[-1]:.1f} (limit {found.limit.more:.1f}), of less "
            f"{found.sums.less[-1]:.1f} (limit {found.limit.less:.1f})."
        )
    if found is not None and found.ranking is not None:
        told = found.ranking
        console.print(
            f"  Pairs ranked rightly: {told.value:.3f} ({told.low:.3f} to {told.high:.3f})."
        )
    for note in look.notes:
        console.print(f"  [yellow]note[/] {escape(plain(note))}")
