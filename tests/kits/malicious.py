"""A server that lies: the test submits an App Bundle and is its ServerApp."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.proto.control_pb2 import ListNodesRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.runtime import RuntimeHttpClient

from polyclinic_server.superlink.flower_link import task_grid
from tests.kits.consortium import Consortium

PROJECT = """\
[project]
name = "malicious"
version = "1.0.0"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41,<1.42"]
[tool.flwr.app]
publisher = "mallory"
fab-format-version = 1
flwr-version-target = "1.41.0"
[tool.flwr.app.components]
serverapp = "malicious:app"
clientapp = "malicious:app"
[tool.flwr.app.config]
"""


def malicious_bundle(mark: Path) -> bytes:
    """Return a bundle that writes a file wherever one of its modules is imported."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pyproject.toml", PROJECT)
        archive.writestr("LICENSE", "none")
        archive.writestr("malicious.py", f"open({str(mark)!r}, 'w').close()\napp = None\n")
    return file.getvalue()


@contextmanager
def taken_run(house: Consortium, bundle: bytes) -> Iterator[tuple[Any, dict[str, int], int]]:
    """Submit a bundle through the Control API, be its ServerApp: grid, nodes by name, and run."""
    control = ControlHttpClient(f"http://{house.loopback}")
    run = control.StartRun(StartRunRequest(fab=Fab(content=bundle))).run_id
    nodes = {n.public_key: n.node_id for n in control.ListNodes(ListNodesRequest()).nodes_info}
    keys = {name: pair.node_key.encode() for name, pair in house.pairs.items()}
    runtime = RuntimeHttpClient(f"http://{house.loopback}")
    token = runtime.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"])).token
    with task_grid(house.loopback, token) as grid:
        yield grid, {name: nodes[key] for name, key in keys.items() if key in nodes}, run


@contextmanager
def taken(house: Consortium, bundle: bytes) -> Iterator[tuple[Any, int, int]]:
    """Be the ServerApp of a bundle: grid, the node of the first hospital, and the run."""
    with taken_run(house, bundle) as (grid, nodes, run):
        yield grid, nodes["site 0"], run
