"""The server's one process: listeners, SuperLink, runs, and what else serves the consortium."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from polyclinic_common.consortium.address import host_port
from polyclinic_common.errors import RunError
from polyclinic_common.files import write_atomically
from polyclinic_server.runs.folder import ADDRESS, RUNS, RunFolder
from polyclinic_server.runs.process import Orders
from polyclinic_server.superlink.app_bundle import bundle_hash
from polyclinic_server.superlink.fleet_gate import Bell, FleetGate, MayConnect, RingOnPush
from polyclinic_server.superlink.flower_link import (
    NODE_KEY_HEADER,
    SuperLink,
    Task,
    speaks_for_itself,
)
from polyclinic_server.superlink.listeners import (
    Listener,
    bound,
    loopback_listener,
    public_listener,
    server_context,
)

LOOPBACK = "127.0.0.1"
FLOWER = "flower"
KEEP_S = 10.0
LOOK_S = 0.25
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Where the server listens, and what it shows.

    Attributes
    ----------
    folder : Path
        Its state.
    certificate, key, authority : Path
        PEM files: what it shows, and whose certificates it takes.
    host, port : str, int
        The public listener; port 0 takes a free one.
    loopback_port : int
        The listener for this machine; port 0 takes a free one.
    """

    folder: Path
    certificate: Path
    key: Path
    authority: Path
    host: str = "0.0.0.0"  # noqa: S104  (the public listener)
    port: int = 9443
    loopback_port: int = 0


@dataclass(frozen=True)
class Addresses:
    """Where the server can be reached: host and port."""

    public: str
    loopback: str


def supervise(
    settings: Settings,
    may_connect: MayConnect,
    ready: Callable[[Addresses], None],
    beside: Sequence[Callable[[], AbstractAsyncContextManager[None]]] = (),
) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    may_connect : callable
        Whether the owner of a certificate may connect now; asked in a thread at every request.
    ready : callable
        Told once where everything can be reached.
    beside : sequence of callables
        What else is served in this loop, as asynchronous contexts: the consortium service.
    """
    asyncio.run(_serve(settings, may_connect, ready, beside))


async def _serve(
    settings: Settings,
    may_connect: MayConnect,
    ready: Callable[[Addresses], None],
    beside: Sequence[Callable[[], AbstractAsyncContextManager[None]]],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for run in RunFolder.all(settings.folder / RUNS):
        _note_lost(run)  # an earlier server was told to start it; SuperLink forgot
    link, bell = SuperLink(settings.folder / FLOWER), Bell()
    gate = FleetGate(link, may_connect, speaks_for_itself, bell, NODE_KEY_HEADER)
    context = server_context(settings.certificate, settings.key, settings.authority)
    public = bound(settings.host, settings.port)
    loopback = bound(LOOPBACK, settings.loopback_port)
    addresses = Addresses(_name(public), _name(loopback))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            _listening(loopback_listener(RingOnPush(link.app, bell)), loopback)
        )
        for other in beside:
            await stack.enter_async_context(other())
        await stack.enter_async_context(_listening(public_listener(gate, context), public))
        runner = asyncio.create_task(_start_runs(link, settings.folder / RUNS, addresses.loopback))
        write_atomically(settings.folder / ADDRESS, addresses.loopback.encode())
        ready(addresses)
        await stop.wait()
        runner.cancel()
        gate.closing = True
        bell.ring()


def _note_lost(run: RunFolder, noted: int | None = None) -> None:
    """Write down that a submitted run is not carried out, if no event follows `noted` others."""
    try:
        if noted is None or len(run.events()) == noted:
            run.note_lost()
    except (OSError, ValueError) as error:
        log.warning("what %s wrote cannot be used: %s", run.name, type(error).__name__)


@contextlib.asynccontextmanager
async def _listening(listener: Listener, sock: socket.socket) -> AsyncIterator[None]:
    serving = asyncio.create_task(listener.serve(sockets=[sock]))
    while not listener.started and not serving.done():
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        listener.should_exit = True
        await serving


async def _start_runs(link: SuperLink, runs: Path, address: str) -> None:
    """Start the coordinator of every run that is submitted."""
    async with asyncio.TaskGroup() as group:
        while True:
            task = await asyncio.to_thread(link.next_task)
            if task is None:
                await asyncio.sleep(LOOK_S)
            elif task.bundle != bundle_hash():
                log.warning("a foreign bundle %s was submitted, and is not run", task.bundle)
                await asyncio.to_thread(link.give_up, task, "foreign bundle")
            else:
                group.create_task(_carry_out(link, task, runs, address))


async def _carry_out(link: SuperLink, task: Task, runs: Path, address: str) -> None:
    """Run the coordinator of one run to its end."""
    try:
        run = RunFolder.named(runs, task.run)
        sites, noted = run.description().sites, len(run.events())
    except (RunError, OSError, ValueError) as error:
        log.warning("the run %s cannot be carried out: %s", task.run, type(error).__name__)
        await asyncio.to_thread(link.give_up, task, "no such run")
        return
    nodes = {name: link.node_of(site.node_key.encode()) for name, site in sites.items()}
    orders = Orders(folder=run.path, address=address, token=task.token, nodes=nodes)
    keeping = asyncio.create_task(_keep(link, task))
    try:
        status = await _coordinator(orders)
    finally:
        keeping.cancel()
    log.info("the coordinator of %s ended with status %d", task.run, status)
    _note_lost(run, noted)
    await asyncio.to_thread(link.give_up, task, f"the coordinator ended with status {status}")


async def _keep(link: SuperLink, task: Task) -> None:
    """Keep a task while its process lives, however long that takes to start."""
    while True:
        await asyncio.to_thread(link.keep, task)
        await asyncio.sleep(KEEP_S)


async def _coordinator(orders: Orders) -> int:
    """Start the process of a run and return its exit status; it ends with this one."""
    told, ours = os.pipe()  # open as long as this process lives
    with open(told), open(ours, "wb", buffering=0) as pipe:  # noqa: PTH123
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "polyclinic_server.runs.process",
            stdin=told,
            env=_without_proxies(),
            start_new_session=True,  # Ctrl-C is for this process, which tells the other
        )
        pipe.write(orders.model_dump_json().encode() + b"\n")
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _without_proxies() -> dict[str, str]:
    """Return the environment of a process that talks to loopback only."""
    return {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return host_port(host, port)
