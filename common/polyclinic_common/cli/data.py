"""`polyclinic data`: check a hospital's table against a study, and write a first mapping."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_common.cli.study import AsJson, Out
from polyclinic_common.files import write_new

if TYPE_CHECKING:
    from polyclinic_common.data.report import CheckReport, ColumnCheck
    from polyclinic_common.study import Study

app = typer.Typer(no_args_is_help=True, help="Check a hospital's table against a study.")

StudyFile = Annotated[Path, typer.Argument(help="The study manifest (TOML).", metavar="STUDY")]
Table = Annotated[
    Path, typer.Argument(help="The hospital's table (CSV or Parquet).", metavar="TABLE")
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
    mapping: Annotated[
        Path | None,
        typer.Option("--map", help="Mapping of the table's columns to the study's (TOML)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report on every column and say whether the table can be used: exit status 0 if it can.

    The table is read here and stays here: nothing is changed, written or sent.
    """
    from polyclinic_common.cli.main import print_json
    from polyclinic_common.data.check import report_table
    from polyclinic_common.data.mapping import apply_mapping, load_mapping
    from polyclinic_common.data.table import read_table
    from polyclinic_common.study import load_study

    contract = load_study(study)
    frame = read_table(table)
    if mapping is not None:
        frame = apply_mapping(load_mapping(mapping), frame, contract)
    report = report_table(contract, frame)
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(report, table.name)
    report.require_usable()


@app.command(
    "map", epilog="Example:  polyclinic data map warfarin.toml extract.csv --out extract-map.toml"
)
def write_map(study: StudyFile, table: Table, out: Out = None) -> None:
    """Write a first mapping from the table's columns to the study's, to be edited."""
    from polyclinic_common.study import load_study

    first_map(load_study(study), table, out, f"polyclinic data check {study} {table} --map {out}")


def first_map(study: Study, table: Path, out: Path | None, following: str) -> None:
    """Write a first mapping to a new file, and say what to run then; or to standard output."""
    from polyclinic_common.data.mapping import first_mapping
    from polyclinic_common.data.table import read_table

    text = first_mapping(study, list(map(str, read_table(table).columns)))
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
    for leak in report.leaks:
        console.print(f"[bold red]warning[/] {escape(str(leak))}")
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}")
    if report.usable:
        console.print("[green]usable[/] The table can be used for this study.")


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
