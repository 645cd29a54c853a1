"""The Ray engine: Flower's own simulation, in which sites answer in Ray's worker processes.

The one file that calls Flower's ``run_simulation``, which is deprecated without a public successor.
Ray is an optional extra and heavy: it is imported when a run starts.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from flwr.app import ConfigRecord, Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore import telemetry
from flwr.supercore.run import Run

from polyclinic_client.run.refusals import SilenceError
from polyclinic_common.errors import Code, PolyclinicError, RunError, SimulationError

TIMEOUT_S = 600.0
PAUSE_S = 0.02
_PARTITION = "polyclinic.partition"
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""Ray listens on loopback where clusters are off and answers whoever knows the token.

It reads both when it is imported.
"""
_NOWHERE = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "localhost",
}
"""Ray asks the metadata services of clouds where it runs, reports or no reports; this stops it."""


class SimulationStopped(Exception):  # noqa: N818
    """Ends the thread of a server whose simulation is over."""


class SimulationGrid(Grid):
    """Flower's grid, once all nodes are there and as long as the simulation lasts.

    Parameters
    ----------
    grid : Grid
        Flower's own.
    sites : int
        How many nodes there will be.
    stopped : Event
        Set when no reply can come any more.
    """

    def __init__(self, grid: Grid, sites: int, stopped: Event):
        self._grid = grid
        self._sites = sites
        self._stopped = stopped

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message from the server."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes; Flower registers them while the server starts."""
        while len(nodes := list(self._grid.get_node_ids())) < self._sites:
            self._go_on()
            time.sleep(PAUSE_S)
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; returns their numbers."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages that are there, each once."""
        self._go_on()
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for the replies."""
        return self._grid.send_and_receive(messages, timeout=timeout)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise SimulationStopped


def refuse_absent(*, own: bool = True) -> None:
    """Refuse where the extra `ray` is not installed.

    `own`: a Ray is started, unless the environment names one; it listens to this process only.

    Raises
    ------
    SimulationError
        If Ray is not installed.
    """
    os.environ.update(_QUIET)
    if own and "RAY_ADDRESS" not in os.environ and "ray" not in sys.modules:
        os.environ.update(_LOOPBACK, RAY_AUTH_TOKEN=secrets.token_hex(32))
    if find_spec("ray") is None:
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "This needs Ray, which is not installed.",
            "Install the extra: pip install 'polyclinic[ray]'.",
        )


def run(
    server_app: ServerApp,
    client_app: ClientApp,
    sites: int,
) -> None:
    """Run the apps with `sites` nodes in a Ray of its own, or in the one at ``RAY_ADDRESS``.

    A site's silence is answered with an error, so that nobody waits for it.

    Raises
    ------
    SimulationError
        If Ray is not installed.
    PolyclinicError
        Whatever the server raised.
    """
    refuse_absent()
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    telemetry.FLWR_TELEMETRY_ENABLED = "0"
    telemetry.state["source"] = "none"  # else a name for this machine is made and kept
    stopped, failures = Event(), list[Exception]()
    server = _server(server_app, sites, stopped, failures)
    # Ctrl-C ends the waiting of this thread; the other one lets Flower and Ray end in order.
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(_simulate, server, client_app, sites).result()
        finally:
            stopped.set()
    if failures:
        raise failures[0]


def _simulate(server: ServerApp, client_app: ClientApp, sites: int) -> None:
    import ray  # noqa: PLC0415
    from flwr.simulation import run_simulation  # noqa: PLC0415  (seconds)

    with _ray_for(sites):
        run_simulation(
            server,
            _client(ray.put(client_app)),
            sites,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )


def refuse_in_use() -> None:
    """Refuse where this process has a Ray already.

    Raises
    ------
    SimulationError
        If it has.
    """
    import ray  # noqa: PLC0415

    if ray.is_initialized():
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "Ray is already in use in this process.",
            "Call ray.shutdown() before; a simulation begins with Ray and ends it.",
        )


@contextmanager
def _ray_for(sites: int) -> Iterator[None]:
    """Start Ray, with no more workers than sites, and leave nothing of it behind."""
    import ray  # noqa: PLC0415

    refuse_in_use()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as scratch:
        if "RAY_ADDRESS" not in os.environ:
            options |= {
                "address": "local",
                "num_cpus": min(sites, len(os.sched_getaffinity(0))),
                "include_dashboard": False,
                "_temp_dir": scratch,
            }
        try:
            with _environment({} if "RAY_ADDRESS" in os.environ else _NOWHERE):
                ray.init(**options)
            yield
        finally:
            ray.shutdown()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _server(
    server_app: ServerApp, sites: int, stopped: Event, failures: list[Exception]
) -> ServerApp:
    """Return the ServerApp with its errors kept: Flower reports those of a thread late."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            server_app(SimulationGrid(grid, sites, stopped), context)
        except (PolyclinicError, SimulationStopped) as error:
            failures.append(error)

    return app


def _client(stored: Any) -> ClientApp:
    """Return a ClientApp that tells its partition and hands everything else to the stored one."""
    app = ClientApp()

    @app.query()
    def tell(message: Message, context: Context) -> Message:
        _unpacked(stored)
        record = ConfigRecord({"number": int(context.node_config["partition-id"])})
        return Message(RecordDict({_PARTITION: record}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        try:
            return _unpacked(stored)(message, context)
        except SilenceError:
            return Message(Error(0, "silent"), reply_to=message)

    return app


@lru_cache(maxsize=1)
def _unpacked(stored: Any) -> ClientApp:
    """Return the stored ClientApp: one a process, whose sites stay as long as the process."""
    import ray  # noqa: PLC0415

    app: ClientApp = ray.get(stored)
    return app


def nodes_in_order(grid: Grid) -> list[int]:
    """Ask every node for its partition; returns the nodes' numbers, the first partition's first.

    Raises
    ------
    RunError
        If a node does not answer.
    """
    nodes = list(grid.get_node_ids())
    messages = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    waiting = set(grid.push_messages(messages))
    partitions: dict[int, int] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while waiting and time.monotonic() < deadline:
        for reply in grid.pull_messages(list(waiting)):
            waiting.discard(reply.metadata.reply_to_message_id)
            if reply.has_content():
                told = reply.content.config_records[_PARTITION]["number"]
                partitions[int(str(told))] = reply.metadata.src_node_id
        time.sleep(PAUSE_S)
    if len(partitions) < len(nodes):
        raise RunError(
            Code.RUN_TOO_FEW_SITES,
            f"{len(partitions)} of {len(nodes)} simulated hospitals started in Ray.",
            "Check that Ray has memory left and the same packages; or leave out --engine ray.",
        )
    return [partitions[number] for number in sorted(partitions)]
