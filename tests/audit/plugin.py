"""A pytest plugin: applies one mutation before any test is imported, and writes what failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.audit.mutations import MUTATIONS

NONE = "none"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutation", default=NONE, choices=[NONE, *MUTATIONS])
    parser.addoption("--caught", help="Where the names of failed tests are written.")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--mutation")
    if name != NONE:
        MUTATIONS[name].apply()
    path = config.getoption("--caught")
    if path:
        config.pluginmanager.register(Failures(Path(path)))


class Failures:
    """Notes the tests that failed; what fails before a test runs catches nothing."""

    def __init__(self, path: Path):
        self._path = path
        self._failed: list[str] = []
        self._passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)
        elif report.when == "call":
            self._passed += 1

    def pytest_sessionfinish(self) -> None:
        found = {"failed": self._failed, "passed": self._passed}
        self._path.write_text(json.dumps(found))
