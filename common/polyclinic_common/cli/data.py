"""`polyclinic data`: check a hospital's table against a study, and write a first mapping."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.cli.options import AsJson
from polyclinic_common.cli.study import Out
from polyclinic_common.files import decoded, write_new

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from polyclinic_common.data.deviation import Deviation
    from polyclinic_common.data.report import CheckReport, ColumnCheck
    from polyclinic_common.data.rules import Mapping
    from polyclinic_common.study import Study

MOST_NAMED = 20
app = typer.Typer(no_args_is_help=True, help="Check a hospital's table against a study.")
StudyFile = Annotated[Path, typer.Argument(help="The study manifest (TOML).", metavar="STUDY")]
Table = Annotated[
    Path, typer.Argument(help="The hospital's table (CSV, Excel or Parquet).", metavar="TABLE")
]
MapFile = Annotated[
    Path | None,
    typer.Option("--map", help="Mapping of the table's columns to the study's (TOML)."),
]
Proposals = Annotated[
    Path | None,
    typer.Option(
        help="Write the mapping to a new file, with a commented line for all that is not "
        "understood.",
    ),
]


@app.callback()
def root() -> None:
    """Check a hospital's table against a study; nothing is changed or sent."""


@app.command(
    epilog="Example:  polyclinic data check warfarin.toml extract.csv --map extract-map.toml"
)
def check(
    study: StudyFile,
    table: Table,
    mapping: MapFile = None,
    propose: Proposals = None,
    as_json: AsJson = False,
) -> None:
    """Report on every column and say whether the table can be used: exit status 0 if it can.

    The table is read here and stays here: nothing is changed or sent.
    """
    from polyclinic_common.study import load_study

    check_against(load_study(study), table, mapping, propose, as_json=as_json)


def check_against(
    study: Study, table: Path, mapping: Path | None, propose: Path | None, *, as_json: bool
) -> None:
    """Print the report on a table, write proposals if asked, and refuse it if it is not usable.

    Raises
    ------
    DataError
        As `read_table`, `translate` and `CheckReport.require_usable`.
    """
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.data.check import report_table
    from polyclinic_common.data.mapping import load_mapping, translate
    from polyclinic_common.data.rules import Mapping

    rules = Mapping() if mapping is None else load_mapping(mapping)
    written = "" if mapping is None else decoded(mapping.read_bytes())
    frame = _read(table, rules, written, propose)
    report = report_table(study, translate(rules, frame, study), rules)
    if propose is not None:
        _propose(propose, written, report)
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(report, table.name)
    report.require_usable()


def _read(table: Path, rules: Mapping, written: str, propose: Path | None) -> DataFrame:
    """Read a table; where it is written in another form than stated, propose that form."""
    from polyclinic_common.data.files import form_of, read_table
    from polyclinic_common.data.propose import propose_form
    from polyclinic_common.errors import DataError

    try:
        return read_table(table, rules.table)
    except DataError:
        form = form_of(table, rules.table) if propose is not None else rules.table
        if propose is not None and form != rules.table:
            write_new(propose, propose_form(written, form))
            typer.echo(
                f"Wrote {propose}: look at its lines that begin with # (local only).", err=True
            )
        raise


def _propose(path: Path, written: str, report: CheckReport) -> None:
    from polyclinic_common.data.propose import propose, without_proposals

    write_new(path, propose(without_proposals(written), report.deviations))
    told = "look at its lines that begin with # (it holds cells; local only)."
    typer.echo(f"Wrote {path}: {told}", err=True)


@app.command(
    "map", epilog="Example:  polyclinic data map warfarin.toml extract.csv --out extract-map.toml"
)
def write_map(study: StudyFile, table: Table, out: Out = None) -> None:
    """Write a first mapping from the table's columns to the study's, to be edited."""
    from polyclinic_common.study import load_study

    first_map(load_study(study), table, out, f"polyclinic data check {study} {table} --map {out}")


def first_map(study: Study, table: Path, out: Path | None, following: str) -> None:
    """Write a first mapping to a new file, and say what to run then; or to standard output."""
    from polyclinic_common.data.check import check_table
    from polyclinic_common.data.csv_file import TableForm
    from polyclinic_common.data.files import form_of, read_table
    from polyclinic_common.data.mapping import first_mapping, parse_mapping, translate
    from polyclinic_common.data.propose import propose

    form = form_of(table, TableForm())
    frame = read_table(table, form)
    text = first_mapping(study, list(map(str, frame.columns)), form, frame)
    rules = parse_mapping(text, "the first mapping").model_copy(update={"table": form})
    translated = translate(rules, frame, study)
    found = check_table(study, translated.frame, rules, translated.unused)
    text = propose(text, found.deviations)
    if out is None:
        sys.stdout.write(text)
        return
    write_new(out, text)
    typer.echo(f"Wrote {out}. Edit it, then run: {following}")


def print_report(report: CheckReport, table_name: str) -> None:
    """Print a check report as a table for people."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Grid

    from polyclinic_common.text import plain

    grid = Grid("column", "role", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    grid.add_column("missing", justify="right")
    grid.add_column("out of range", justify="right")
    grid.add_column("remarks")
    for column in report.columns:
        grid.add_row(*map(escape, _cells(column)))
    console = Console(highlight=False)
    console.print(f"[bold]{escape(table_name)}[/] checked against the study {report.study}")
    console.print(grid)
    console.print(
        f"rows: {report.rows}; without patient id: {report.missing_patient_ids}; "
        f"patients in several rows: {report.duplicate_patients}; "
        f"without outcome: {report.without_outcome}"
    )
    for deviation in report.deviations:
        _print_deviation(console, deviation)
    for settled in report.settled:
        console.print(f"[green]settled[/] {escape(plain(str(settled)))}")
    for leak in report.leaks:
        console.print(f"[bold red]warning[/] {escape(str(leak))}")
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}")
    if report.unused:
        console.print(f"[yellow]not used[/] {escape(plain(_unused(report.unused)))}")
    if report.usable:
        console.print("[green]usable[/] The table can be used for this study.")


def _unused(columns: tuple[str, ...]) -> str:
    """Say which columns of the table nothing is taken of."""
    named = ", ".join(columns[:MOST_NAMED])
    more = len(columns) - MOST_NAMED
    number = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
    return f"{number} of the table: {named}{f' and {more} more' if more > 0 else ''}"


def _print_deviation(console: Console, deviation: Deviation) -> None:
    from rich.markup import escape

    from polyclinic_common.text import plain

    shown = f" ({', '.join(deviation.examples)})" if deviation.examples else ""
    said = f"{deviation.place}: {deviation.what}{shown} {deviation.cause}"
    console.print(f"[bold red]not understood[/] {escape(plain(said))}")
    if deviation.lines:
        console.print(f"  write in {escape(deviation.section)} of the mapping:")
        for line in deviation.lines:
            console.print(f"    {escape(plain(line))}", soft_wrap=True)
    if deviation.otherwise:
        console.print(f"  {escape(plain(deviation.otherwise))}")


def _cells(column: ColumnCheck) -> tuple[str, ...]:
    if not column.present:
        return (column.column, column.role, "absent", "", "")
    return (
        column.column,
        column.role,
        f"{column.missing_share:.1%}",
        str(column.out_of_range or ""),
        "; ".join(_remarks(column)),
    )


def _remarks(column: ColumnCheck) -> Iterator[str]:
    if column.columns_absent:
        yield f"{column.columns_absent} columns absent"
    if column.unit_error is not None:
        yield f"another unit? {column.unit_error.conversion}"
    if column.unreadable:
        yield f"{column.unreadable} unreadable"
    if column.unknown:
        more = column.unknown_distinct - len(column.unknown_words)
        words = [*column.unknown_words, *([f"{more} more"] if more else [])]
        yield f"{column.unknown} unknown ({', '.join(words)})"
