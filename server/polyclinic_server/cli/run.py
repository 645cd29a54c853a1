"""`polyclinic server run`: start runs, follow them, stop them, go on with them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyclinic_common.cli.options import AsJson
from polyclinic_server.cli.options import FOLDER, FolderOption

if TYPE_CHECKING:
    from polyclinic_server.runs.folder import Event, RunFolder

app = typer.Typer(no_args_is_help=True, help="Start runs, follow them, stop them, go on with them.")
RunArgument = Annotated[str, typer.Argument(help="The run, as `run list` shows it.", metavar="RUN")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")]


@app.callback()
def root() -> None:
    """Start runs, follow them, stop them, go on with them."""


@app.command(epilog="Example:  polyclinic server run start warfarin --min-sites 5")
def start(
    study: Annotated[
        str, typer.Argument(help="The study: its id or the start of its hash.", metavar="STUDY")
    ],
    folder: FolderOption = FOLDER,
    min_sites: Annotated[
        int | None,
        typer.Option(help="Fewest hospitals of a round; can only raise the study's m."),
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Train a study over the hospitals that approved it, and show how it gets on."""
    from polyclinic_server.folder import ServerFolder
    from polyclinic_server.runs.start import start_run

    _watch(start_run(ServerFolder.open(folder), study, min_sites), 0, detach, as_json)


@app.command(epilog="Example:  polyclinic server run resume 1f0c")
def resume(
    run: RunArgument, folder: FolderOption = FOLDER, detach: Detach = False, as_json: AsJson = False
) -> None:
    """Go on with a run that was stopped, failed or was cut off, from its last finished round."""
    from polyclinic_server.runs import operate

    found = meant_run(folder, run)
    seen = len(found.events())
    _watch(operate.resume_run(folder, found.name), seen, detach, as_json)


@app.command(epilog="Example:  polyclinic server run stop 1f0c")
def stop(run: RunArgument, folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Stop a run after its present round; `run resume` goes on with it."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.runs import operate

    found = meant_run(folder, run)
    operate.stop_run(folder, found.name)
    if as_json:
        print_json({"run": found.name, "stopping": True})
        return
    typer.echo(f"{found.name} stops after its present round.")


@app.command(epilog="Example:  polyclinic server run show 1f0c --json")
def show(run: RunArgument, folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Show a run: who answered each round, in what time, who was waited for; then its metrics."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.runs.folder import CUT_OFF
    from polyclinic_server.runs.quality import Quality

    found = meant_run(folder, run)
    quality = Quality.read(found.path)
    if as_json:
        events = [event.model_dump(mode="json") for event in found.events()]
        print_json(
            {"run": found.name, "state": _state(found), "events": events}
            | {"epsilon_promised": found.description().parsed_study.privacy.epsilon}
            | quality.model_dump(mode="json")
        )
        return
    for event in found.events():
        moment = dt.datetime.fromtimestamp(event.at).astimezone()
        typer.echo(f"{moment:%Y-%m-%d %H:%M:%S}  {_words(event)}")
    for line in [*quality.lines(), _promise(found)]:
        typer.echo(line)
    if _state(found) == CUT_OFF:
        typer.echo("It was cut off: its server or coordinator has ended. Go on with `run resume`.")


@app.command("list", epilog="Example:  polyclinic server run list")
def list_runs(folder: FolderOption = FOLDER, as_json: AsJson = False) -> None:
    """Show all runs: study, state, rounds."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from polyclinic_common.cli.output import print_json
    from polyclinic_server.runs import operate

    found = [_summary(run) for run in operate.list_runs(folder)]
    if as_json:
        print_json(found)
        return
    table = Table(*_summary_columns(), box=SIMPLE_HEAD, pad_edge=False)
    for each in found:
        table.add_row(*map(str, each.values()))
    Console(highlight=False).print(table)


def _summary_columns() -> list[str]:
    return ["run", "study", "state", "round", "of", "hospitals"]


def _summary(run: RunFolder) -> dict[str, Any]:
    description, events = run.description(), run.events()
    study = description.parsed_study
    numbers = [event.round for event in events if event.what in {"started", "round", "finished"}]
    values = [
        run.name,
        study.id,
        _state(run),
        max(numbers, default=0),
        study.rounds,
        len(description.sites),
    ]
    return dict(zip(_summary_columns(), values, strict=True))


def _promise(run: RunFolder) -> str:
    """Say what the study promised, and where it stands what was spent."""
    study, events = run.description().parsed_study, run.events()
    done = len({event.round for event in events if event.what == "round"})
    less = ""
    if events and events[-1].what == "finished" and done < study.rounds:
        less = f", less: training stopped early, after {done} of {study.rounds} rounds"
    return (
        f"promised: epsilon {study.privacy.epsilon:g} at most, delta {study.privacy.delta:g}; "
        f"spent: what each hospital's ledger says (`polyclinic client ledger budget`){less}"
    )


def _state(run: RunFolder) -> str:
    status = run.status()
    return "running" if status == "going" else status


def meant_run(folder: FolderOption, word: str) -> RunFolder:
    """Return the run that a person means: its name, or the start of it."""
    from polyclinic_server.runs import operate

    matching = [run for run in operate.list_runs(folder) if run.name.startswith(word)]
    return matching[0] if len(matching) == 1 else operate.find_run(folder, word)


def _watch(run: RunFolder, skip: int, detach: bool, as_json: bool) -> None:
    """Follow a run to its end; an end before the last round ends the command with its error."""
    from polyclinic_common.cli.output import print_json
    from polyclinic_server.runs.quality import Quality

    if detach:
        print_json({"run": run.name}) if as_json else typer.echo(f"Started {run.name}.")
        return
    last = list(run.follow(skip))[-1] if as_json else _follow(run, skip)
    if last.what != "finished":
        raise _ended(run, last)
    if as_json:
        print_json({"run": run.name, "rounds": last.round, "model": str(run.model)})
    else:
        for line in [*Quality.read(run.path).lines(), _promise(run)]:
            typer.echo(line)
        typer.echo(f"Finished. The model is offered to the hospitals: {run.model}")


def _follow(run: RunFolder, skip: int) -> Event:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("round"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rounds = run.description().parsed_study.rounds
    events: list[Event] = []
    typer.echo(f"Run {run.name}. Ctrl-C stops watching; the run goes on.")
    with Progress(*columns, TextColumn("{task.description}")) as progress:
        task = progress.add_task("waiting for the hospitals", total=rounds)
        for event in run.follow(skip):
            progress.update(task, completed=event.round or None, description=_words(event))
            events.append(event)
    return events[-1]


def _words(event: Event) -> str:
    """Say in words what happened."""
    match event.what:
        case "started":
            return "started" if event.round == 0 else f"goes on after round {event.round}"
        case "waiting":
            waiting = [f"{site} ({why})" for site, why in sorted(event.waiting_for.items())]
            return f"waiting for {', '.join(waiting)}" if waiting else "all have answered"
        case "round":
            refused = "".join(f"; {site}: {why}" for site, why in sorted(event.refused.items()))
            answered = f"{len(event.sites)} hospitals in {event.seconds:.1f} s"
            return f"round {event.round}: {answered}{refused}"
        case "finished":
            return "finished"
    return f"{event.what}: {event.text}"


def _ended(run: RunFolder, last: Event) -> Exception:
    from polyclinic_common.errors import Code, RunError

    if not last.code:
        return RunError(
            Code.RUN_CUT_OFF,
            f"The run {run.name} was cut off: its server or coordinator has ended.",
            "Look into the server's log; then `polyclinic server up` and `run resume`.",
        )
    what, _, remedy = last.text.partition(". ")
    return RunError(Code(last.code), f"{what}.", remedy or "See: polyclinic server run show")
