"""``python -m polyclinic_simulations.bench.consortium``: what a real consortium takes.

A server and four hospitals on this machine, as `polyclinic try` makes them, run the study gbsg2.
JSON goes to standard output, a table and what is being done to standard error.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from polyclinic_server.runs.folder import Event
from polyclinic_server.runs.operate import find_run
from polyclinic_simulations.bench.machine import describe_machine
from polyclinic_simulations.bench.page_frames import counted_once_mb
from polyclinic_simulations.bench.records import Machine
from polyclinic_simulations.results.results import Record
from polyclinic_simulations.try_out.commands import Commands
from polyclinic_simulations.try_out.consortium import TrialConsortium

KINDS: Mapping[str, bytes] = {
    "server": b"\0server\0up\0",
    "coordinator": b"\0polyclinic_server.superlink.coordinate\0",
    "node": b"\0client\0up\0",
    "worker": b"\0polyclinic_client.worker.worker\0",
}
SETTLE_S, IDLE_S, LOOK_S = 10.0, 20.0, 0.25
TICKS_S, PAGE_MB = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Look:
    """All processes of the consortium at one moment.

    Attributes
    ----------
    at : float
        When, Unix seconds.
    cpu_s, memory_mb : mapping
        Processor time so far and resident memory, by kind and number of the process.
    hospital_of : mapping
        Number of the node, by number of the node or of its worker.
    """

    at: float
    cpu_s: Mapping[tuple[str, int], float]
    memory_mb: Mapping[tuple[str, int], float]
    hospital_of: Mapping[int, int]

    def cpu(self, kind: str) -> float:
        """Return the processor time of all processes of a kind."""
        return sum(spent for (each, _), spent in self.cpu_s.items() if each == kind)

    def hospitals(self) -> list[list[int]]:
        """Return the processes of every hospital: its node, and its worker if there is one."""
        nodes = sorted(set(self.hospital_of.values()))
        return [[pid for pid, of in self.hospital_of.items() if of == node] for node in nodes]

    def hospitals_mb(self) -> list[float]:
        """Return the memory of every hospital, its processes added up."""
        by_pid = {pid: mb for (_, pid), mb in self.memory_mb.items()}
        return [sum(by_pid[pid] for pid in pids) for pids in self.hospitals()]


class ConsortiumTime(Record):
    """What was measured.

    `run_s` is `server run start` from being typed to its end; `parts_s` the same by what the run's
    events tell. `cpu_ms` is processor time a round by kind of process, all hospitals together, from
    the second round on; `idle_percent` that of the busiest idle node, of a core. Memory is that of
    the largest hospital: of its idle node, and of node and worker at work, added up, and after the
    run with pages that both share counted once, where that is shown.
    """

    machine: Machine
    hospitals: int
    rounds: int
    run_s: float
    parts_s: dict[str, float]
    round_median_s: float
    round_longest_s: float
    cpu_ms: dict[str, float]
    idle_percent: float
    idle_mb: float
    working_mb: float
    working_once_mb: float | None


def measure() -> ConsortiumTime:
    """Make a consortium, leave it idle for a while, and run the study."""
    machine = describe_machine()
    with TemporaryDirectory() as place:
        commands = Commands(lambda line: Console(stderr=True).print(line, style="dim"), Path(place))
        consortium = TrialConsortium(Path(place), commands)
        try:
            consortium.prepare()
            time.sleep(SETTLE_S)
            before = look()
            time.sleep(IDLE_S)
            idle = look()
            with watched() as looks:
                typed = time.time()
                name = consortium.train()["run"]
                ended = time.time()
            once = [counted_once_mb(each) for each in look().hospitals()]
            events = find_run(consortium.server, name).events()
        finally:
            commands.stop()
    rounds = [event for event in events if event.what == "round"]
    first, last = rounds[0], rounds[-1]
    seconds = [event.seconds for event in rounds[1:]]
    during = [each for each in looks if first.at <= each.at <= last.at]
    spans = (len(rounds) - 1) * (during[-1].at - during[0].at) / (last.at - first.at)
    lazy = [idle.cpu_s[each] - before.cpu_s[each] for each in idle.cpu_s if each[0] == "node"]
    return ConsortiumTime(
        machine=machine,
        hospitals=len(lazy),
        rounds=len(rounds),
        run_s=ended - typed,
        parts_s=_parts(events, typed, ended),
        round_median_s=median(seconds),
        round_longest_s=max(seconds),
        cpu_ms={k: 1e3 * (during[-1].cpu(k) - during[0].cpu(k)) / spans for k in KINDS},
        idle_percent=100 * max(lazy) / (idle.at - before.at),
        idle_mb=max(idle.hospitals_mb()),
        working_mb=max(max(each.hospitals_mb()) for each in during),
        working_once_mb=max((mb for mb in once if mb is not None), default=None),
    )


def _parts(events: Sequence[Event], typed: float, ended: float) -> dict[str, float]:
    """Return the seconds between the events of a run that went through."""
    started = next(event.at for event in events if event.what == "started")
    rounds = [event.at for event in events if event.what == "round"]
    finished = events[-1].at
    return {
        "command and coordinator start": started - typed,
        "first round (workers start, keys)": rounds[0] - started,
        "other rounds": rounds[-1] - rounds[0],
        "closing": finished - rounds[-1],
        "command ends": ended - finished,
    }


@contextmanager
def watched() -> Iterator[list[Look]]:
    """Look at the consortium again and again while the block runs."""
    looks: list[Look] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            looks.append(look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield looks
    finally:
        over.set()
        watcher.join()


def look() -> Look:
    """Look at the processes below this one (proc(5))."""
    cpu: dict[tuple[str, int], float] = {}
    memory: dict[tuple[str, int], float] = {}
    hospitals: dict[int, int] = {}
    for pid, parent in _below(os.getpid()):
        try:
            command = b"\0" + Path(f"/proc/{pid}/cmdline").read_bytes()
            fields = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            )
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        for kind in (kind for kind, words in KINDS.items() if words in command):
            cpu[kind, pid] = (int(fields[11]) + int(fields[12])) / TICKS_S
            memory[kind, pid] = int(fields[21]) * PAGE_MB
            hospitals |= {"node": {pid: pid}, "worker": {pid: parent}}.get(kind, {})
    return Look(time.time(), cpu, memory, hospitals)


def _below(parent: int) -> Iterator[tuple[int, int]]:
    """Yield every process below one, with its parent."""
    try:
        tasks = [
            path.read_text(encoding="utf-8")
            for path in Path(f"/proc/{parent}/task").glob("*/children")
        ]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in map(int, " ".join(tasks).split()):
        yield child, parent
        yield from _below(child)


def main() -> None:
    """Measure, and print JSON and a table."""
    found = measure()
    sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    table = Table("what", "found", title=f"{found.rounds} rounds, {found.hospitals} hospitals")
    table.add_row("run start to end", f"{found.run_s:.1f} s")
    for part, seconds in found.parts_s.items():
        table.add_row(f"  {part}", f"{seconds:.1f} s")
    table.add_row("median round", f"{found.round_median_s:.2f} s")
    table.add_row("longest round", f"{found.round_longest_s:.2f} s")
    for kind, milliseconds in found.cpu_ms.items():
        table.add_row(f"processor time a round, {kind}", f"{milliseconds:.0f} ms")
    table.add_row("idle node, processor", f"{found.idle_percent:.2f} %")
    table.add_row("idle node, memory", f"{found.idle_mb:.0f} MB")
    table.add_row("working node and worker, memory", f"{found.working_mb:.0f} MB")
    if found.working_once_mb is not None:
        table.add_row("  shared pages counted once", f"{found.working_once_mb:.0f} MB")
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
