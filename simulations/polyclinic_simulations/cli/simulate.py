"""`polyclinic simulate`: run a whole federation on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import click
import typer

from polyclinic_common.cli.many_values import ManyValues
from polyclinic_common.errors import Code, SimulationError
from polyclinic_common.study.sections import Mode, Strategy

if TYPE_CHECKING:
    from pandas import DataFrame

    from polyclinic_common.data.rules import Mapping
    from polyclinic_common.study import Study

INTERRUPTED = 130
EXAMPLES = """
Examples:

  polyclinic simulate gbsg2                          the demonstration study, its own settings

  polyclinic simulate gbsg2 --epsilon 0.5 1 2 --seeds 5

  polyclinic simulate my-study.toml --data patients.csv --mode local none

  polyclinic simulate gbsg2 --epsilon 0.5 1 2 4 --sites 4 8 16 --drop 0 0.1 --seeds 5

  polyclinic simulate --from-table my.csv --site-column hospital --outcome-column response

  polyclinic simulate heart --data ~/polyclinic-data --json

  polyclinic simulate gbsg2 --epsilon 0.5 1 2 4 --seeds 20 --cluster 192.0.2.7:6379
"""


app = typer.Typer(add_completion=False)


@app.command(cls=ManyValues, epilog=EXAMPLES)
def simulate(
    study: Annotated[
        str | None, typer.Argument(help="A built-in study (gbsg2, heart, iwpc …) or a manifest.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Table of a manifest; data folder of a built-in study.")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            "--map", help="Mapping of the table's columns to the study's, as for `data check`."
        ),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            click_type=click.Choice(get_args(Mode)),
            help="local, none or both (default: the study's).",
        ),
    ] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="One or several budgets (default: the study's).")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            click_type=click.Choice(get_args(Strategy)),
            help="How releases are combined (default: the study's).",
        ),
    ] = None,
    sites: Annotated[
        list[int] | None, typer.Option(help="Spread all patients over so many made-up hospitals.")
    ] = None,
    drop: Annotated[
        list[float] | None, typer.Option(help="Probability of a hospital to miss a round.")
    ] = None,
    gradients: Annotated[
        str, typer.Option(help="fast (closed form) or opacus, as a hospital's node; equal results.")
    ] = "fast",
    engine: Annotated[
        str, typer.Option(help="inline, or ray: Flower's own simulation (extra ray).")
    ] = "inline",
    start: Annotated[
        Path | None,
        typer.Option(
            help="Warm start: a saved model, matched by the names of columns, or coefficients "
            "(CSV in natural units, JSON of encoded columns)."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds; each is a split of its own.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where results go (default: polyclinic-out/STUDY).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: one a core).")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run the cells on the machines of a Ray cluster: HOST:PORT or ray://HOST:PORT.",
        ),
    ] = None,
    from_table: Annotated[
        Path | None, typer.Option(help="Draft a manifest from this table and run it.")
    ] = None,
    site_column: Annotated[str, typer.Option(help="With --from-table: hospital.")] = "hospital",
    outcome_column: Annotated[
        str, typer.Option(help="With --from-table: outcome, or time to the event.")
    ] = "outcome",
    event_column: Annotated[
        str | None, typer.Option(help="With --from-table: event indicator of a survival outcome.")
    ] = None,
    event_is: Annotated[
        str | None, typer.Option(help="With --from-table: word of the event or positive answer.")
    ] = None,
    patient_column: Annotated[
        str | None, typer.Option(help="With --from-table: patient number (default: the row).")
    ] = None,
    mlflow: Annotated[
        bool,
        typer.Option(
            "--mlflow", help="Log new cells to mlflow.db in the output folder (extra mlflow)."
        ),
    ] = False,
    bundle: Annotated[
        bool,
        typer.Option(
            "--bundle",
            help="Write every model as a file for `polyclinic predict`, marked SIMULATED.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print result.json instead of tables.")
    ] = False,
) -> None:
    """Train a study across simulated hospitals and compare it with honest baselines.

    Writes result.json, cells.csv and report.html; after Ctrl-C the same command goes on.
    """
    from polyclinic_common.data.mapping import load_mapping
    from polyclinic_simulations.draft.from_table import (
        Roles,
        draft_study,
        refuse_leaks,
        several_rows,
        taken_for_event,
    )
    from polyclinic_simulations.report.console import RichWatcher, print_result
    from polyclinic_simulations.report.mlflow_log import log_result, refuse_absent
    from polyclinic_simulations.studies import resolve

    if from_table is not None and (study, data, mapping) != (None, None, None):
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "--from-table drafts a study of its own; STUDY, --data or --map was given beside it.",
            "Leave out --from-table, or STUDY, --data and --map.",
        )
    if cluster is not None and workers is not None:
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "A cluster has its own number of processes: one a core.",
            "Leave out --workers or --cluster.",
        )
    if mlflow:
        refuse_absent()
    name = Path(study or from_table or "study").stem
    folder = out or Path("polyclinic-out", name)
    rules = None
    if from_table is not None:
        roles = Roles(site_column, outcome_column, event_column, patient_column, event_is)
        manifest, frame = draft_study(from_table, roles, folder)
        sys.stderr.write(taken_for_event(manifest, roles))
        sys.stderr.write(several_rows(frame, roles))
        refuse_leaks(manifest, frame, from_table, folder)
    else:
        rules = None if mapping is None else load_mapping(mapping)
        manifest, frame = resolve(study or "", data, rules)
        _tell_settled(rules, frame, manifest)
    try:
        with RichWatcher(quiet=as_json) as watcher:
            from polyclinic_simulations import simulate as run

            result = run(
                manifest,
                frame,
                mapping=rules,
                modes=mode or (),
                epsilons=epsilon or (),
                strategies=strategy or (),
                sites=sites or (),
                drops=drop or (),
                gradients=gradients,
                start=start,
                engine=engine,
                seeds=seeds,
                out=folder,
                workers=workers or len(os.sched_getaffinity(0)),
                cluster=cluster,
                watcher=watcher,
                bundle=bundle,
            )
    except KeyboardInterrupt:
        sys.stderr.write(
            f"Stopped. Finished cells are kept in {folder}; the same command goes on from there.\n"
        )
        raise typer.Exit(INTERRUPTED) from None
    if mlflow:
        log_result(result, folder)
    if as_json:
        sys.stdout.write((folder / "result.json").read_text() + "\n")
    else:
        print_result(manifest, result, folder)
        if bundle:
            sys.stdout.write(f"Models for `polyclinic predict FILE`: {folder / 'bundles'}\n")


def _tell_settled(rules: Mapping | None, frame: DataFrame, study: Study) -> None:
    """Print on standard error what a mapping settled of the table."""
    from polyclinic_common.text import plain
    from polyclinic_simulations.draft.mapped import translate_hospitals

    if rules is None:
        return
    for settled in translate_hospitals(rules, frame, study).settled:
        sys.stderr.write(f"settled {plain(str(settled))}\n")
