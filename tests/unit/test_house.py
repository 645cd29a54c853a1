"""The house keeps its rules: who imports what, and where Flower is touched."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from polyclinic_common.errors import Code

ROOT = Path(__file__).parents[2]
ROOMS = {
    "common": {"polyclinic_common"},
    "client": {"polyclinic_common", "polyclinic_client"},
    "server": {"polyclinic_common", "polyclinic_server"},
    "simulations": {
        "polyclinic_common",
        "polyclinic_client",
        "polyclinic_server",
        "polyclinic_simulations",
    },
}
PUBLIC_FLOWER = ("flwr.app", "flwr.clientapp", "flwr.serverapp")
ADAPTERS = {
    "server/polyclinic_server/superlink/flower_link.py",
    "client/polyclinic_client/node/fleet.py",
    "simulations/polyclinic_simulations/engines/inline.py",
    "simulations/polyclinic_simulations/engines/ray.py",
    # No engine: measures Flower's own SecAgg+, which has no public interface outside its workflow.
    "simulations/polyclinic_simulations/bench/flower_secagg.py",
}
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FORBIDDEN = {"pickle", "random", "marshal", "shelve"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for path in modules(room):
        ours = {name.partition(".")[0] for name in imports(path)}
        foreign = {name for name in ours if name.startswith("polyclinic_")} - ROOMS[room]
        assert not foreign, f"{path} imports {foreign}"


@pytest.mark.parametrize("room", ROOMS)
def test_flower_beyond_its_public_api_is_touched_in_adapters_only(room: str) -> None:
    for path in modules(room):
        private = {
            name
            for name in imports(path)
            if name.partition(".")[0] == "flwr" and not name.startswith(PUBLIC_FLOWER)
        }
        relative = path.relative_to(ROOT).as_posix()
        assert not private or relative in ADAPTERS, f"{relative} imports {private}"


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_unsafe_is_imported_or_called(room: str) -> None:
    for path in modules(room):
        assert not imports(path) & FORBIDDEN, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "print"}, f"{path}:{node.lineno}"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def arrows() -> Mapping[str, set[str]]:
    """Return what every module imports of ours, also where only types are looked at."""
    paths = {module_of(path): path for room in ROOMS for path in modules(room)}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
        known = wanted & paths.keys()
        packages = {each for each in known if any(other.startswith(f"{each}.") for other in known)}
        found[name] = known - packages - {name}
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the members of a circle; none where there is none."""
    left = {name: set(to) for name, to in graph.items()}
    while free := [name for name, to in left.items() if not to & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_module_imports_itself_by_a_detour() -> None:
    assert not circle(arrows())


def test_no_room_imports_itself_by_a_detour() -> None:
    rooms: dict[str, set[str]] = {}
    for name, to in arrows().items():
        own = ".".join(name.split(".")[:2])
        others = {".".join(each.split(".")[:2]) for each in to}
        rooms.setdefault(own, set()).update(others - {own})
    assert len(rooms) > 40
    assert not circle(rooms)


COMMON = {
    "privacy": set[str](),
    "identity": set(),
    "secure_sum": {"identity"},
    "wire": {"identity", "secure_sum"},
    "study": set(),
    "data": {"study"},
    "models": {"data", "study"},
    "evaluation": {"data", "models", "study"},
    "releases": {"data", "evaluation", "models", "privacy", "study"},
    "consortium": {"identity", "study"},
    "bundle": {
        *("consortium", "data", "evaluation", "identity", "models", "privacy", "releases", "study"),
    },
    "bedside": {"bundle", "data", "identity", "models", "study"},
}
"""Which rooms of `common` each may import; single files of its root may be imported by all."""


@pytest.mark.parametrize("room", COMMON)
def test_a_room_of_common_imports_what_its_rule_names_alone(room: str) -> None:
    rooms = {path.name for path in (ROOT / "common/polyclinic_common").iterdir() if path.is_dir()}
    for name, to in arrows().items():
        if name.split(".")[:2] == ["polyclinic_common", room]:
            others = {each.split(".")[1] for each in to if each.count(".") > 1} & rooms
            assert others - {room} <= COMMON[room], name


NETWORK = {
    *("socket", "socketserver", "ssl", "asyncio", "selectors", "http", "urllib", "httpx", "grpc"),
    *("requests", "uvicorn", "starlette", "subprocess", "multiprocessing"),
}


def test_common_reaches_a_network_in_the_consortium_and_listens_on_loopback_at_the_bedside() -> (
    None
):
    """A released model is verified, read and asked without any; certificates are TLS settings."""
    reaching = {
        path.relative_to(ROOT / "common/polyclinic_common").as_posix()
        for path in modules("common")
        if {name.partition(".")[0] for name in imports(path)} & NETWORK
    }
    rooms = {name.partition("/")[0] for name in reaching - {"identity/certificates.py"}}
    assert rooms == {"consortium", "bedside"}


def test_a_circle_would_be_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_a_node_and_a_simulation_have_their_sites_made_in_one_place() -> None:
    """Only a benchmark composes a site by hand, to hang a stopwatch on its parts."""
    makers: dict[str, set[str]] = {
        name: set() for name in ("SumResponder", "UpdateResponder", "VoteResponder")
    }
    for path in (*modules("client"), *modules("simulations")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                makers.get(node.func.id, set()).add(path.name)
    assert makers.pop("SumResponder") == {"assembly.py", "sum_sites.py"}
    assert set.union(*makers.values()) == {"assembly.py"}


def foreign_tests(path: Path) -> set[str]:
    """Return the test modules and conftests that a module of the tests takes something from.

    Names within strings count, as code for other processes stands in them; its own name does not.
    """
    text = path.read_text()
    named = set(re.findall(r"\btests(?:\.\w+)+", text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    parts = {part for name in named for part in name.split(".")}
    return {part for part in parts if part.startswith("test_") or part == "conftest"} - {path.stem}


def is_test(path: Path) -> bool:
    return path.stem.startswith("test_") or path.stem in {"conftest", "__init__"}


def test_no_test_takes_anything_from_another() -> None:
    assert len(TESTS) > 150
    for path in TESTS:
        assert not foreign_tests(path), path


def test_what_tests_share_lies_with_the_kits() -> None:
    """Beside them only the audit, which plants defects, and the makers of vectors."""
    for path in TESTS:
        room = path.relative_to(ROOT / "tests").parts[0]
        assert is_test(path) or room in {"kits", "audit", "vectors"}, path
        assert room != "kits" or path.stem == "__init__" or not is_test(path), path


@pytest.mark.parametrize("other", ["test_pki", "conftest"])
@pytest.mark.parametrize(
    "line",
    [
        "from tests.unit.OTHER import made",
        "from tests.unit import OTHER",
        "import tests.OTHER",
        "from .OTHER import made",
        "from . import OTHER",
        'CODE = "from tests.OTHER import made"',
    ],
)
def test_what_is_taken_from_another_test_is_seen(tmp_path: Path, line: str, other: str) -> None:
    path = tmp_path / "test_some.py"
    path.write_text(line.replace("OTHER", other))
    assert foreign_tests(path) == {other}


def test_product_packages_know_no_test_switch() -> None:
    for room in ROOMS:
        for path in modules(room):
            text = path.read_text().lower()
            assert "pytest" not in text, path
            assert "polyclinic_require" not in text, path


def test_help_answers_at_once_without_importing_torch() -> None:
    polyclinic = Path(sys.executable).with_name("polyclinic")
    code = "import sys; from polyclinic_common.cli.main import app; app(['--help'])"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "torch" not in done.stderr
    assert "pandas" not in done.stderr
    shown = subprocess.run([polyclinic, "--help"], capture_output=True, text=True, check=True)
    for command in ("study", "data", "simulate"):
        assert command in shown.stdout


def test_a_node_holds_nothing_that_computes_on_patients() -> None:
    """That is in its worker, which may crash or run out of memory and takes nothing with it."""
    code = (
        "import sys, polyclinic_client.node.main, polyclinic_client.backup.row_keeper\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'scipy', 'polyclinic_client.ledger.ledger'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_hospital_image_holds_no_server_code(tmp_path: Path) -> None:
    """A tree with only `common/` and `client/` builds a wheel by the same pyproject."""
    for name in ("pyproject.toml", "README.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for room in ("common", "client"):
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                copy = tmp_path / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"polyclinic_common", "polyclinic_client"} <= tops
    assert not {"polyclinic_server", "polyclinic_simulations"} & tops


def test_every_error_code_is_documented() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    for code in Code:
        assert f"`{code.value}`" in text, code


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (line for group in groups for line in group):
        name = requirement.partition(">")[0].partition("=")[0].partition("[")[0]
        assert f"`{name}`" in text, name


def test_every_code_is_used() -> None:
    text = "".join(path.read_text() for room in ROOMS for path in modules(room))
    for code in Code:
        assert f"Code.{code.name}" in text, code
