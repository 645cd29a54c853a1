"""Cells on a Ray cluster: the same numbers as here, in every mode, and errors that say what is up.

The cluster is two nodes of one core on this machine's loopback, behind a token of its own, for the
whole module. Whoever runs on it does so in a process of its own: Ray reads the token when it is
imported.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_common.errors import PolyclinicError, SimulationError
from polyclinic_common.models.vectors import load_vectors
from polyclinic_simulations import simulate
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.results.results import Result
from polyclinic_simulations.sweep.store import Piece, Store
from tests.kits.required import unavailable
from tests.kits.small import small_study, small_table

MODES = ("none", "local", "secure-sum")
SEEDS = 2
RUN_S, END_S = 300, 120
NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster()
for _ in range(2):
    cluster.add_node(num_cpus=1, include_dashboard=False)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
DRIVER = """
import json, sys
from polyclinic_common.errors import PolyclinicError
from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table
from tests.kits.watcher import Recorder

address, out, options, study = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
watcher = Recorder()
try:
    simulate(small_study("continuous", **study), small_table(), out=out, cluster=address,
             watcher=watcher, **options)
except PolyclinicError as error:
    print(json.dumps(error.as_dict()))
else:
    print(json.dumps({"total": watcher.total, "done": watcher.done}))
"""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster of two nodes on this machine."""

    address: str
    environment: Mapping[str, str]

    def run(
        self, out: Path, options: object, study: object = None, path: str = ""
    ) -> dict[str, object]:
        """Simulate in a process of its own, where `path` is looked for packages first."""
        searched = os.pathsep.join(filter(None, [path, *sys.path]))
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, self.address, str(out)]
            + [json.dumps(each or {}) for each in (options, study)],
            env={**self.environment, "PYTHONPATH": searched},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_S,
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return told


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a cluster; skip where Ray is absent."""
    if find_spec("ray") is None:
        unavailable("ray", "install the extra ray")
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # short: names of sockets
        Path(scratch, "ray").mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback stays loopback
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": scratch,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        with subprocess.Popen(
            [sys.executable, "-c", NODES],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as nodes:
            assert nodes.stdin is not None
            assert nodes.stdout is not None
            try:
                yield Cluster(nodes.stdout.readline().strip(), environment)
            finally:
                nodes.stdin.close()
                nodes.wait(END_S)


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """Run every mode on the cluster, with two seeds."""
    out = tmp_path_factory.mktemp("shared")
    return out, cluster.run(out, {"modes": MODES, "seeds": SEEDS})


def without_time(result: Result) -> list[dict[str, object]]:
    return [cell.model_dump(exclude={"timing"}) for cell in result.cells]


def test_cells_of_a_cluster_are_those_of_this_machine_bit_for_bit(
    shared: tuple[Path, object], tmp_path: Path
) -> None:
    study, table = small_study("continuous"), small_table()
    here = simulate(study, table, modes=["none"], seeds=SEEDS, out=tmp_path)
    there = simulate(study, table, modes=["none"], seeds=SEEDS, out=shared[0])
    assert without_time(here) == without_time(there)
    models = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert len(models) == SEEDS
    for name in models:
        one, other = (load_vectors(out / "models" / name)[0] for out in (tmp_path, shared[0]))
        assert one.keys() == other.keys() != set()
        assert all(one[key].tobytes() == other[key].tobytes() for key in one)


def test_every_mode_comes_back_whole_and_progress_adds_up(shared: tuple[Path, object]) -> None:
    out, told = shared
    study = small_study("continuous")
    rounds = study.training.rounds
    assert told == {"total": SEEDS * 6 * rounds, "done": SEEDS * 6 * rounds}
    again = simulate(study, small_table(), modes=MODES, seeds=SEEDS, out=out)
    assert [cell.mode for cell in again.cells] == [mode for mode in MODES for _ in range(SEEDS)]
    folders = sorted(out.glob("sites/*/*"))
    assert len(folders) == 2 * SEEDS * len(study.roster.sites)
    for folder in folders:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
        with SiteFolder.open(folder) as opened:
            assert opened.ledger.verify() > rounds
            assert opened.journal.verify() > rounds


def test_a_cell_that_fails_there_fails_as_it_does_here(cluster: Cluster, tmp_path: Path) -> None:
    training = {"rounds": 20, "learning_rate": 1e3}
    with pytest.raises(PolyclinicError) as here:
        simulate(small_study("continuous", training=training), small_table(), modes=["none"])
    told = cluster.run(tmp_path, {"modes": ["none"]}, {"training": training})
    assert told == here.value.as_dict()
    assert told["error"] == "R002"


def test_another_version_on_the_cluster_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    """This machine's is made to look newer than that of the cluster's."""
    metadata = tmp_path / "newer" / "polyclinic-99.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: polyclinic\nVersion: 99\n")
    out = tmp_path / "out"
    told = cluster.run(out, {"modes": ["none"]}, path=str(metadata.parent.parent))
    assert told["error"] == "X008"
    assert "polyclinic" in str(told["what"])
    assert "99" in str(told["what"])
    assert not list(out.rglob("*.json"))


def refused(**options: object) -> str:
    with pytest.raises(SimulationError) as caught:
        simulate(small_study(), small_table(), **options)  # type: ignore[arg-type]
    assert caught.value.remedy
    return caught.value.code


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_refused(kind: str, tmp_path: Path) -> None:
    if find_spec("ray") is None:
        unavailable("ray", "install the extra ray")
    nowhere = Cluster(f"{kind}127.0.0.1:{free_port()}", os.environ)
    assert nowhere.run(tmp_path, {"modes": ["none"]})["error"] == "X007"


def test_an_address_that_is_none_or_does_not_fit_is_refused() -> None:
    for nonsense in ("auto", "127.0.0.1", "127.0.0.1:port", ":6379", "host:70000"):
        assert refused(cluster=nonsense) == "X003"
    assert refused(cluster="127.0.0.1:6379", engine="ray", modes=["local"]) == "X003"


def test_without_ray_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(cluster="127.0.0.1:6379") == "X003"


def test_what_comes_back_stays_in_the_output_folder_and_replaces_what_was_begun(
    tmp_path: Path,
) -> None:
    store, piece = Store(tmp_path / "out", "identity"), Piece(0, Setting("local", 1.0, "descent"))
    begun = store.hospitals(piece.setting, piece.seed) / "001" / "ledger.sqlite"
    begun.parent.mkdir(parents=True)
    begun.write_text("begun here")
    checkpoint = store.checkpoint(piece.setting, piece.seed).path
    checkpoint.parent.mkdir()
    checkpoint.write_text("begun here")
    store.keep(piece, {"cells/a.json": b"{}", "models/a.safetensors": b"m"})
    assert not begun.exists()
    assert not checkpoint.exists()
    assert (tmp_path / "out" / "cells" / "a.json").read_bytes() == b"{}"
    for outside in ("../a", str(tmp_path / "a"), "cells/../../a"):
        with pytest.raises(ValueError, match="outside"):
            store.keep(piece, {outside: b"x"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
