"""A node's commits are on the disk before anything leaves; only a simulation may go without."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.study_book.book import StudyBook
from polyclinic_client.worker.site_book import open_sites
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.hospitals import Hospitals, bypassed
from polyclinic_simulations.federation.setting import Setting
from tests.kits.small import small_study, small_table

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(
    path
    for room in ("common/polyclinic_common", "client/polyclinic_client", "server/polyclinic_server")
    for path in (ROOT / room).rglob("*.py")
)
OFF, FULL = 0, 2  # as SQLite numbers them
NAME = "durable"
CONSTRUCTORS = {"create", "open", "open_file"}


def synchronous(folder: SiteFolder) -> tuple[int, int]:
    """Return how ledger and journal sync, as SQLite says it of the open connections."""
    asked = "PRAGMA synchronous"
    ledger, journal = folder.ledger._log.connection, folder.journal._log.connection
    return ledger.execute(asked).fetchone()[0], journal.execute(asked).fetchone()[0]


def test_a_node_syncs_every_commit_of_ledger_and_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StudyBook, "open", lambda _: None)  # this site has joined no consortium
    with SiteFolder.create(tmp_path / "site", delta=1e-5, epsilon_cap=1.0) as made:
        assert synchronous(made) == (FULL, FULL)
    book = open_sites(tmp_path / "site")
    assert synchronous(book.folder) == (FULL, FULL)
    book.folder.close()


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_a_simulated_hospital_does_not_and_the_report_says_so(mode: str, tmp_path: Path) -> None:
    setting = Setting(mode, 1.0, "descent")
    federation = build_federation(setting.apply(small_study()), small_table(), seed=0)
    hospitals = Hospitals(federation, setting, "run", Trainer(), tmp_path)
    hospitals.found()
    assert {synchronous(folder) for folder in hospitals.folders().values()} == {(OFF, OFF)}
    hospitals.close()
    (said,) = [sentence for sentence in bypassed("inline", "fast") if "synced" in sentence]
    assert "node" in said
    with SiteFolder.open(tmp_path / "001") as opened:  # as a person would, who looks at it
        assert synchronous(opened) == (FULL, FULL)


def choices(tree: ast.AST, inside: bool = False) -> Iterator[str]:
    """Give what in a module could make a commit less than durable.

    Allowed are a keyword-only parameter `durable` that is True unless given, and handing it on as
    it is; it is read by the function that opens the file.
    """
    for node in ast.iter_child_nodes(tree):
        here = inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            here = _takes(node.args)
            yield from _parameters(node.args)
        elif isinstance(node, ast.Call):
            yield from _handed_on(node, inside)
        elif isinstance(node, ast.Name) and node.id == NAME:
            if not inside or not isinstance(node.ctx, ast.Load):
                yield f"line {node.lineno}: {NAME} is no parameter here, or is set"
        elif isinstance(node, ast.Constant) and node.value == NAME:
            yield f"line {node.lineno}: {NAME} as text"
        yield from choices(node, here)


def _takes(arguments: ast.arguments) -> bool:
    return NAME in {each.arg for each in arguments.kwonlyargs}


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    by_place = [*arguments.posonlyargs, *arguments.args]
    if NAME in {each.arg for each in by_place}:
        yield f"{NAME} can be given by its place"
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if each.arg == NAME and not (isinstance(default, ast.Constant) and default.value is True):
            yield f"line {each.lineno}: {NAME} is not True unless given"


def _handed_on(call: ast.Call, inside: bool) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg == NAME and not (inside and ast.unparse(keyword.value) == NAME):
            yield f"line {call.lineno}: {NAME} is chosen"
        opens = {ast.unparse(each).split(".")[-1] for each in (call.func, *call.args)}
        if keyword.arg is None and opens & CONSTRUCTORS:
            yield f"line {call.lineno}: something unnamed is handed to what opens files"


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_in_the_product_can_choose_commits_that_are_not_synced(path: Path) -> None:
    text = path.read_text()
    assert not list(choices(ast.parse(text)))
    assert text.count("PRAGMA synchronous") == (path.name == "sqlite_file.py")


def test_only_the_folders_of_simulated_hospitals_are_made_without_syncs() -> None:
    simulations = ROOT / "simulations" / "polyclinic_simulations"
    choosing = {
        path.relative_to(simulations).as_posix()
        for path in simulations.rglob("*.py")
        if list(choices(ast.parse(path.read_text())))
    }
    assert choosing == {"federation/hospitals.py"}


@pytest.mark.parametrize(
    ("code", "chooses"),
    [
        ("def f(*, durable: bool = True): g(durable=durable)", False),
        ("def f(*, durable: bool = True): return 'FULL' if durable else 'OFF'", False),
        ("SiteFolder.open(path)", False),
        ("SiteFolder.open(path, durable=False)", True),
        ("partial(SiteFolder.create, path, durable=False)", True),
        ("SiteFolder.open(path, **how)", True),
        ("partial(SiteFolder.create, **how)", True),
        ("def f(*, durable: bool = False): g(durable=durable)", True),
        ("def f(durable: bool = True): g(durable=durable)", True),
        ("def f(*, durable: bool = True): g(durable=not durable)", True),
        ("def f(*, durable: bool = True):\n durable = False\n g(durable=durable)", True),
        ("g(durable=durable)", True),
        ("how = {'durable': False}", True),
    ],
)
def test_the_look_at_the_code_sees_a_choice(code: str, chooses: bool) -> None:
    assert bool(list(choices(ast.parse(code)))) == chooses
