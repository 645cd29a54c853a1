"""Similar patients stay here: by the shape of the code, by what is done and what is said."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyclinic_common.releases.kinds import KINDS
from tests.kits.bedside import released
from tests.kits.loopback import Loopback
from tests.kits.small import small_study

ROOT = Path(__file__).parents[2]
START = "polyclinic_client.cli.similar"
NETWORK = {
    *("socket", "socketserver", "select", "selectors", "asyncio", "subprocess", "multiprocessing"),
    *("urllib", "urllib3", "http", "httpx", "requests", "aiohttp", "grpc", "websockets", "flwr"),
    *("uvicorn", "starlette", "webbrowser", "syslog", "smtplib", "ftplib", "ctypes", "logging"),
}
WITHOUT = {"node", "consortium", "backup", "gate", "run", "worker"}


def file_of(module: str) -> Path:
    package, *rest = module.split(".")
    place = ROOT / package.removeprefix("polyclinic_") / package / Path(*rest)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def reached() -> dict[str, set[str]]:
    """Return what the command may import of ours, and what of others each of these imports."""
    found: dict[str, set[str]] = {}
    waiting = [START]
    while waiting:
        module = waiting.pop()
        if module in found or not file_of(module).is_file():
            continue
        names = set(imported(file_of(module).read_text()))
        ours = {name for name in names if name.startswith(("polyclinic_client", "polyclinic_com"))}
        found[module] = {name.partition(".")[0] for name in names - ours}
        waiting += ours
    return found


def test_nothing_that_the_command_may_import_reaches_a_network() -> None:
    found = reached()
    assert {"polyclinic_common.bundle.similar", "polyclinic_client.study_book.book"} <= set(found)
    for module, libraries in found.items():
        assert not libraries & NETWORK, f"{module} imports {libraries & NETWORK}"
        package, room, *_ = (*module.split("."), "")
        assert package != "polyclinic_client" or room not in WITHOUT, module


def test_no_kind_of_release_is_about_similar_patients() -> None:
    assert KINDS
    assert not [kind.name for kind in KINDS if "similar" in f"{kind.name} {kind.what}".lower()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a site whose table is frozen, and a model beside it."""
    place = tmp_path_factory.mktemp("consortium")
    consortium = Loopback(place)
    try:
        consortium.join_all()
        study = consortium.publish(small_study())
        consortium.add("site 0", patients=60)
    finally:
        consortium.stop()
    (place / "model.polyclinic").write_bytes(released(study).to_bytes())
    return consortium.path("site 0")


def watch(site: Path, *more: str) -> dict[str, Any]:
    words = ["client", "similar", str(site.parent / "model.polyclinic"), "--json", "--site"]
    asked = [str(site), "--patient", "age=61", "sex=female"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.kits.watched_command", *more, str(site), *words, *asked],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def contents(site: Path) -> dict[str, str]:
    """Return what lies in the folder; the files that SQLite keeps for readers are not looked at."""
    files = (path for path in site.rglob("*") if path.is_file() and not path.match("*-shm"))
    held = {str(path): path.read_bytes() for path in files}
    return {path: hashlib.sha256(kept).hexdigest() for path, kept in held.items() if kept}


@pytest.mark.slow
def test_the_command_opens_no_connection_and_changes_no_file(site: Path) -> None:
    before = contents(site)
    found = watch(site)
    assert json.loads(found["printed"])["patients"] == 6
    assert found["seen"] == []
    assert contents(site) == before


@pytest.mark.slow
def test_the_watch_sees_a_connection_that_is_planted(site: Path) -> None:
    assert any(seen.startswith("socket.") for seen in watch(site, "planted")["seen"])


@pytest.mark.slow
def test_what_is_printed_names_no_patient(site: Path) -> None:
    printed = watch(site)["printed"]
    assert "P0" not in printed
    assert set(json.loads(printed)) == {"patients", "likeness", "treatments", "outcomes", "notes"}
