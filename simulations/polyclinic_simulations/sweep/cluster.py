"""Do the pieces of a simulation on the machines of a Ray cluster, one core a piece.

A piece runs in one process, wherever that is, exactly as it does here: all its hospitals, in every
mode. Study and table travel through Ray's object store once; everything a piece wrote comes back
as bytes and is kept here. Ray is an optional extra and heavy: it is imported when it is used.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polyclinic_common.errors import Code, PolyclinicError, SimulationError
from polyclinic_simulations.engines.ray import refuse_in_use
from polyclinic_simulations.sweep.cells import run_piece
from polyclinic_simulations.sweep.pool import use_one_core
from polyclinic_simulations.sweep.store import Files, Job, Piece, collect
from polyclinic_simulations.sweep.watcher import Watcher

CONNECT_S = 10.0
POLL_S = 0.2
TELL_S = 0.5
CLIENT = "ray://"
COMPUTING = ("polyclinic", "numpy", "scipy", "pandas", "lifelines", "torch", "opacus")
"""Packages whose versions decide what comes out: they must be the same on all machines."""


@dataclass(frozen=True)
class Parcel:
    """What all pieces need; `start` is the content of the warm start's file."""

    job: Job
    start: bytes | None


class Tally:
    """Counts finished work for whoever asks; one actor serves all machines."""

    def __init__(self) -> None:
        self._units = 0.0

    def add(self, units: float) -> None:
        """Count work."""
        self._units += units

    def take(self) -> float:
        """Return what was counted since the last time."""
        taken, self._units = self._units, 0.0
        return taken


class Teller:
    """Tells the tally of finished work, a few times a second at most."""

    def __init__(self, tally: Any):
        self._tally = tally
        self._units = 0.0
        self._told = time.monotonic()

    def advance(self, units: float) -> None:
        """Count work, and tell of it now or later."""
        self._units += units
        if time.monotonic() - self._told >= TELL_S:
            self.tell()

    def tell(self) -> Any:
        """Tell of what was not told yet."""
        told, self._units, self._told = self._units, 0.0, time.monotonic()
        return self._tally.add.remote(told)


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute; "none" where one is not installed."""
    return {name: _version(name) for name in COMPUTING}


def run_on_cluster(job: Job, pieces: Sequence[Piece], address: str, watcher: Watcher) -> None:
    """Do all pieces; what is finished is kept even if a later one fails or is interrupted.

    Raises
    ------
    SimulationError
        X007 if the cluster does not answer or goes away, X008 if another Polyclinic runs there.
    PolyclinicError
        Whatever a piece raised.
    """
    watcher.begin(sum(piece.units(job.study) for piece in pieces))
    with _connected(address):
        _refuse_other_machines(address)
        _do_all(job, pieces, watcher)


def _do_all(job: Job, pieces: Sequence[Piece], watcher: Watcher) -> None:
    import ray  # noqa: PLC0415

    start = None if job.start is None else job.start.read_bytes()
    parcel, here = ray.put(Parcel(job, start)), versions()
    tally = _remote(Tally, num_cpus=0).remote()
    work = _remote(_work, num_cpus=1, scheduling_strategy="SPREAD")
    waiting = {work.remote([parcel], here, piece, tally): piece for piece in pieces}
    while waiting:
        done, _ = ray.wait(list(waiting), timeout=POLL_S)
        watcher.advance(ray.get(tally.take.remote()))
        for finished in done:
            piece = waiting.pop(finished)
            job.store.keep(piece, _result(finished))


def _work(parcel: Sequence[Any], there: Mapping[str, str], piece: Piece, tally: Any) -> Files:
    """Do one piece in this process of the cluster; return every file that it wrote.

    `parcel` holds a reference: what it stands for is read after versions were compared.
    """
    import ray  # noqa: PLC0415

    refuse_other(there)
    sent: Parcel = ray.get(parcel[0])
    teller = Teller(tally)
    with TemporaryDirectory() as scratch:
        job = _unpacked(sent, Path(scratch))
        use_one_core(job, [piece])
        run_piece(job, piece, teller.advance)
        ray.get(teller.tell())
        return collect(job.store.folder)


def _unpacked(sent: Parcel, scratch: Path) -> Job:
    """Return the job with its files in this folder, and a table that may be written to."""
    job, start = sent.job, None
    if job.start is not None and sent.start is not None:
        start = scratch / job.start.name
        start.write_bytes(sent.start)
    store = replace(job.store, folder=scratch / "out")
    return replace(job, frame=job.frame.copy(), store=store, start=start)


def refuse_other(there: Mapping[str, str]) -> None:
    """Refuse to compute for a machine with other versions than this one's.

    Raises
    ------
    SimulationError
        X008 naming a package that differs.
    """
    for name, here in versions().items():
        if here != there.get(name):
            raise SimulationError(
                Code.CLUSTER_DIFFERS,
                f"A machine of the cluster has {name} {here}, this one {there.get(name)}.",
                "Install the same versions on all machines, then run it again.",
            )


def _refuse_other_machines(address: str) -> None:
    """Compare versions on every machine that has cores to compute on."""
    import ray  # noqa: PLC0415
    from ray.exceptions import RayTaskError  # noqa: PLC0415
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    machines = [
        node["NodeID"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("CPU")
    ]
    if not machines:
        raise _unreachable(address, "has no machine with a core")
    asked = [
        _remote(
            refuse_other,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine, soft=False),
        ).remote(versions())
        for machine in machines
    ]
    for each in asked:
        try:
            ray.get(each)
        except RayTaskError as error:
            raise _as_it_was(error, _without_polyclinic()) from error


def _remote(what: Any, **options: Any) -> Any:
    """Return a function or class whose calls run somewhere on the cluster."""
    import ray  # noqa: PLC0415

    return ray.remote(**options)(what)


def _result(finished: Any) -> Any:
    """Return what a task returned; what it raised is raised here as it was there."""
    import ray  # noqa: PLC0415
    from ray.exceptions import RayTaskError  # noqa: PLC0415

    try:
        return ray.get(finished)
    except RayTaskError as error:
        raise _as_it_was(error, error.cause or error) from error


def _as_it_was(error: Any, otherwise: Exception) -> Exception:
    """Return the coded error that a task raised, or something else where it raised none."""
    return error.cause if isinstance(error.cause, PolyclinicError) else otherwise


def _without_polyclinic() -> SimulationError:
    return SimulationError(
        Code.CLUSTER_DIFFERS,
        "A machine of the cluster has no Polyclinic that can do this one's work.",
        "Install the same Polyclinic with the same extras on all machines, then run it again.",
    )


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Join the cluster and leave it again; nothing of this run goes on there."""
    _refuse_unreachable(address)
    import ray  # noqa: PLC0415
    from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415

    refuse_in_use()
    try:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _unreachable(address, "does not let this machine in") from error
        yield
    except RayTaskError:
        raise  # a defect: its own trace says where
    except (RayError, ConnectionError) as error:
        raise _unreachable(address, "lost a piece of work or went away") from error
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Knock before Ray does, which would wait for minutes."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SimulationError(
            Code.SIMULATION_OPTION,
            f"{address!r} is no address of a Ray cluster.",
            "Give HOST:PORT (as `ray start` printed it) or ray://HOST:PORT.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address, "does not answer") from error


def _unreachable(address: str, what: str) -> SimulationError:
    return SimulationError(
        Code.CLUSTER_UNREACHABLE,
        f"The Ray cluster at {address} {what}.",
        "See `ray status` there; this machine must be one of the cluster, or use ray://HOST:10001. "
        "Finished cells are kept: the same command goes on.",
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
